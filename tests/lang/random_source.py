"""Random programs: the same text for the language and for CPython, where each operation is wrapped to the width of its type."""

from __future__ import annotations

import random
from typing import Any

TYPES = ("u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64")
RESULTS = 6


def bits(kind: str) -> int:
    return int(kind[1:])


def low(kind: str) -> int:
    return -(1 << bits(kind) - 1) if kind[0] == "s" else 0


def high(kind: str) -> int:
    return (1 << bits(kind) - (kind[0] == "s")) - 1


def wrap(kind: str, value: int) -> int:
    """What fixed widths do: the one difference from CPython that the language documents, with division by zero."""
    value &= (1 << bits(kind)) - 1
    return value - (1 << bits(kind)) if value > high(kind) else value


def div(a: int, b: int) -> int:
    return a // b if b else 0


def mod(a: int, b: int) -> int:
    return a % b if b else a


def shl(a: int, n: int) -> int:
    return a << n if n < 128 else 0


def shr(a: int, n: int) -> int:
    return a >> n if n < 128 else (-1 if a < 0 else 0)


NAMESPACE: dict[str, Any] = {"w": wrap, "div": div, "mod": mod, "shl": shl, "shr": shr}


class Function:
    """One program: `text` in the language, `python` for CPython."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.variables: dict[str, str] = {}
        self.text: list[str] = []
        self.python: list[str] = []
        self.depth = 1
        self.loops = 0
        self.name = f"f{seed}"

    def emit(self, text: str, python: str | None = None) -> None:
        self.text.append("    " * self.depth + text)
        self.python.append("    " * self.depth + (text if python is None else python))

    def literal(self, kind: str) -> tuple[str, str]:
        edge = [low(kind), high(kind), 0, 1, 2, 3, 7, high(kind) // 3]
        value = self.random.choice([*edge, self.random.randint(low(kind), high(kind))])
        text = f"({value})" if value < 0 else str(value)
        return text, text

    def leaf(self, kind: str) -> tuple[str, str]:
        known = [name for name, own in self.variables.items() if own == kind]
        if known and self.random.random() < 0.7:
            name = self.random.choice(known)
            return name, name
        other = self.random.choice(list(self.variables))
        return f"{kind}({other})", f"w('{kind}', {other})"

    def operand(self, kind: str, depth: int) -> tuple[str, str]:
        if self.random.random() < 0.15 and bits(kind) > 8:
            narrow = f"{kind[0]}{bits(kind) // 2}"
            return self.expression(narrow, depth)
        return self.expression(kind, depth)

    def expression(self, kind: str, depth: int) -> tuple[str, str]:
        pick = self.random.random()
        if depth <= 0 or pick < 0.1:
            return self.leaf(kind)
        if pick < 0.6:
            op = self.random.choice(["+", "-", "*", "//", "%", "&", "|", "^"])
            a, pa = self.expression(kind, depth - 1)
            b, pb = self.literal(kind) if self.random.random() < 0.3 else self.operand(kind, depth - 1)
            if self.random.random() < 0.5 and op not in ("//", "%"):
                a, pa, b, pb = b, pb, a, pa
            call = {"//": f"div({pa}, {pb})", "%": f"mod({pa}, {pb})"}.get(op, f"{pa} {op} {pb}")
            if not self.wide(a, b, kind):
                return f"({kind}({a}) {op} {b})", f"w('{kind}', {call})"
            return f"({a} {op} {b})", f"w('{kind}', {call})"
        if pick < 0.7:
            op, name = self.random.choice([("<<", "shl"), (">>", "shr")])
            a, pa = self.expression(kind, depth - 1)
            if self.random.random() < 0.5:
                count = str(self.random.randrange(bits(kind)))
                return f"({a} {op} {count})", f"w('{kind}', {name}({pa}, {count}))"
            n, pn = self.expression(self.random.choice(["u8", "u32", "u64"]), depth - 2)
            if self.random.random() < 0.5:
                n, pn = f"({n} & {bits(kind) - 1})", f"({pn} & {bits(kind) - 1})"
            return f"({a} {op} {n})", f"w('{kind}', {name}({pa}, {pn}))"
        if pick < 0.78:
            op = self.random.choice(["-", "~"])
            a, pa = self.expression(kind, depth - 1)
            return f"({op}{a})", f"w('{kind}', {op}{pa})"
        if pick < 0.86:
            test, ptest = self.condition(depth - 1)
            a, pa = self.expression(kind, depth - 1)
            b, pb = self.expression(kind, depth - 1)
            return f"({a} if {test} else {b})", f"({pa} if {ptest} else {pb})"
        if pick < 0.92:
            name = self.random.choice(["min", "max"])
            a, pa = self.expression(kind, depth - 1)
            b, pb = self.expression(kind, depth - 1)
            return f"{name}({a}, {b})", f"{name}({pa}, {pb})"
        if pick < 0.95:
            word = self.random.choice(["and", "or"])
            a, pa = self.expression(kind, depth - 1)
            b, pb = self.expression(kind, depth - 1)
            return f"({a} {word} {b})", f"({pa} {word} {pb})"
        other = self.random.choice(TYPES)
        a, pa = self.expression(other, depth - 1)
        return f"{kind}({a})", f"w('{kind}', {pa})"

    def wide(self, a: str, b: str, kind: str) -> bool:
        """Whether an operand certainly has the whole width (a narrower pair would compute in the narrower type)."""
        return True

    def condition(self, depth: int) -> tuple[str, str]:
        pick = self.random.random()
        kind = self.random.choice(TYPES)
        if depth <= 0 or pick < 0.6:
            op = self.random.choice(["==", "!=", "<", "<=", ">", ">="])
            a, pa = self.expression(kind, depth - 1)
            b, pb = self.literal(kind) if self.random.random() < 0.4 else self.expression(kind, depth - 1)
            if pick < 0.1:
                c, pc = self.expression(kind, depth - 1)
                return f"({b} < {a} <= {c})", f"({pb} < {pa} <= {pc})"
            return f"({a} {op} {b})", f"({pa} {op} {pb})"
        if pick < 0.8:
            word = self.random.choice(["and", "or"])
            a, pa = self.condition(depth - 1)
            b, pb = self.condition(depth - 1)
            return f"({a} {word} {b})", f"({pa} {word} {pb})"
        if pick < 0.9:
            a, pa = self.condition(depth - 1)
            return f"(not {a})", f"(not {pa})"
        a, pa = self.expression(kind, depth - 1)
        return a, pa

    def statement(self, depth: int) -> None:
        pick = self.random.random()
        names = [name for name in self.variables if name[0] == "v"]
        name = self.random.choice(names)
        kind = self.variables[name]
        if pick < 0.5 or depth <= 0:
            text, python = self.expression(kind, 3)
            self.emit(f"{name} = {text}", f"{name} = {python}")
        elif pick < 0.65:
            op = self.random.choice(["+", "-", "*", "//", "%", "&", "|", "^"])
            text, python = self.expression(kind, 2)
            call = {"//": f"div({name}, {python})", "%": f"mod({name}, {python})"}.get(op, f"{name} {op} {python}")
            self.emit(f"{name} {op}= {text}", f"{name} = w('{kind}', {call})")
        elif pick < 0.85:
            text, python = self.condition(2)
            self.emit(f"if {text}:", f"if {python}:")
            self.block(depth - 1)
            if self.random.random() < 0.5:
                self.emit("else:")
                self.block(depth - 1)
        else:
            self.loops += 1
            variable = f"i{self.loops}"
            start, stop, step = self.random.randint(0, 3), self.random.randint(0, 6), self.random.choice([1, 1, 2, 3])
            bounds = f"range({start}, {stop}, {step})" if step > 1 else f"range({stop})"
            if self.random.random() < 0.2:
                bounds = f"range({stop}, 0, -1)"
            self.emit(f"for {variable} in {bounds}:")
            self.depth += 1
            self.emit(f"{name} += {kind}({variable})", f"{name} = w('{kind}', {name} + w('{kind}', {variable}))")
            self.depth -= 1
            self.block(depth - 1)
            if self.random.random() < 0.4:
                self.depth += 1
                text, python = self.condition(1)
                self.emit(f"if {text}:", f"if {python}:")
                self.emit(f"    {self.random.choice(['break', 'continue'])}")
                self.emit(f"{name} ^= 1", f"{name} = w('{kind}', {name} ^ 1)")
                self.depth -= 1

    def block(self, depth: int) -> None:
        self.depth += 1
        for _ in range(self.random.randint(1, 2)):
            self.statement(depth)
        self.depth -= 1

    def build(self) -> None:
        for kind in TYPES:
            self.variables[f"a_{kind}"] = kind
        for position in range(RESULTS):
            kind = self.random.choice(TYPES)
            name = f"v{position}"
            text, python = self.expression(kind, 2)
            self.emit(f"{name}: {kind} = {text}", f"{name} = {python}")
            self.variables[name] = kind
        for _ in range(self.random.randint(1, 5)):
            self.statement(2)


def program(seeds: list[int]) -> tuple[str, list[Any]]:
    """A module of one program for each seed, and for each a function that CPython runs: of the inputs, to the results."""
    lines = ["from bpf2py.lang import *", "", f"result: array[u64, {RESULTS}] = array[u64, {RESULTS}]()"]
    lines += [f"in_{kind}: {kind} = 0" for kind in TYPES]
    functions = []
    for seed in seeds:
        function = Function(seed)
        function.build()
        lines += ["", "", "@syscall", f"def {function.name}(ctx: Context) -> int:"]
        lines += [f"    a_{kind} = in_{kind}" for kind in TYPES]
        lines += function.text
        lines += [f"    result[{i}] = u64(v{i})" for i in range(RESULTS)]
        lines.append("    return 0")
        head = f"def {function.name}({', '.join(f'a_{kind}' for kind in TYPES)}):"
        tail = f"    return [{', '.join(f'w({chr(39)}u64{chr(39)}, v{i})' for i in range(RESULTS))}]"
        namespace = dict(NAMESPACE)
        exec("\n".join([head, *function.python, tail]), namespace)
        functions.append(namespace[function.name])
    return "\n".join(lines) + "\n", functions


def inputs(source: random.Random) -> dict[str, int]:
    """A value for each input."""
    return {
        kind: source.choice(
            [low(kind), high(kind), 0, 1, source.randint(low(kind), high(kind)), source.randint(max(low(kind), -9), 9)]
        )
        for kind in TYPES
    }
