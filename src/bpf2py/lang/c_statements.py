"""Statements and functions as C."""

from __future__ import annotations

from typing import Any

from bpf2py.lang.c_expressions import CExpressions
from bpf2py.lang.c_places import Places, within
from bpf2py.lang.tree import (
    Assign,
    Binary,
    Block,
    Break,
    Cast,
    Closure,
    Continue,
    Copy,
    Deref,
    Each,
    Expr,
    ExprStmt,
    For,
    Function,
    If,
    Local,
    Lock,
    MapSlot,
    Return,
    Stmt,
    StructLit,
    Var,
    While,
)  # fmt: skip
from bpf2py.lang.types import BOOL, VOID, Array, Int, Ptr, Struct, Type
from bpf2py.uapi.program_types import ProgramType

__all__ = ["CStatements"]


_C_OPERATORS = {op: op for op in ("+", "-", "*", "&", "|", "^", "<<", ">>", "%")} | {"//": "/"}


class CStatements(CExpressions):
    """Prints functions; each line is (indentation, text, line of the program or 0)."""

    lines: list[tuple[int, str, int]]

    def steady(self, local: Local) -> bool:
        """Whether a local keeps its first value."""
        return id(local) not in self.places.loops and self.places.assigned.get(id(local), 0) <= 1

    def function(self, function: Function) -> list[tuple[int, str, int]]:
        """A function, with what it needs before it."""
        self.lines = []
        self.current = function
        self.depth = 1
        self.in_closure: list[tuple[Closure, int]] = []
        self.loops = 0
        self.releases: list[tuple[Expr, int]] = []
        self.renamed = {}
        self.places = Places(function.body)
        self.shown: set[int] = {id(p) for p in function.parameters}
        if function.macro and not any(p.name == "ctx" for p in function.parameters):
            for local in function.locals:
                if local.name == "ctx":
                    self.renamed[id(local)] = "py__ctx"
        before: list[tuple[int, str, int]] = []
        for closure in function.closures:
            before += self._closure_function(closure)
        self.lines = []
        head = self._head(function)
        own = {id(each) for closure in function.closures for each in closure.own} | {
            id(each)
            for closure in function.closures
            for each in closure.locals
            if each is not None and each not in closure.captured
        }
        self._open(function.body, function, [each for each in function.locals if id(each) not in own])
        self.block(function.body)
        if function.kind == "program" and function.returns == VOID and not self._is_void(function):
            self.lines.append((1, "return 0;", 0))
        return [
            *before,
            *[(0, line, function.node.lineno) for line in head],
            (0, "{", 0),
            *self.lines,
            (0, "}", 0),
            (0, "", 0),
        ]

    @staticmethod
    def _is_void(function: Function) -> bool:
        return function.definition is not None and function.definition.program_type == ProgramType.STRUCT_OPS

    def _head(self, function: Function) -> list[str]:
        name = self.names.of(function.name)
        returns = self.names.declare(function.returns, name if not function.macro else "")
        parameters = [self.names.declare(p.type, self.names.inner(p.name)) for p in function.parameters]
        if function.kind == "program":
            kind = "void" if self._is_void(function) and function.returns == VOID else "int"
            if function.returns != VOID and isinstance(function.returns, Int) and function.returns.bits == 64:
                kind = self.names.integer(function.returns)
            head = [f'SEC("{function.section}")']
            if function.definition is not None and function.definition.name.startswith("usdt"):
                self.headers.add("bpf/usdt.bpf.h")  # attaching needs its map, also where no argument is asked for
            if function.macro:
                if function.macro != "BPF_USDT":
                    self.headers.add("bpf/bpf_tracing.h")
                rest = parameters[1:] if function.parameters and function.parameters[0].name == "ctx" else parameters
                return [*head, f"{kind} {function.macro}({', '.join([name, *rest])})"]
            return [*head, f"{kind} {name}({', '.join(parameters) or 'void *ctx'})"]
        if function.kind == "global":
            parameters = [f"{text}{self._tag(p)}" for text, p in zip(parameters, function.parameters, strict=True)]
        prefix = {"global": "__noinline ", "subprogram": "static __noinline "}.get(
            function.kind, "static __always_inline "
        )
        if function.callback and function.kind == "inline":
            prefix = "static "
        if function.returns == VOID:
            returns = f"void {name}"
        return [f"{prefix}{returns}({', '.join(parameters) or 'void'})"]

    @staticmethod
    def _tag(parameter: Local) -> str:
        kind = parameter.type
        if isinstance(kind, Ptr) and not (isinstance(kind.target, Struct) and kind.target.kernel):
            return " __arg_nonnull"
        if (
            isinstance(kind, Ptr)
            and isinstance(kind.target, Struct)
            and not kind.target.name.startswith(("__sk_buff", "xdp_md", "bpf_"))
        ):
            return " __arg_trusted"
        return ""

    # -- lines -------------------------------------------------------------------------------------------------------

    def put(self, text: str, line: int = 0) -> None:
        """A line, and before it what its expressions need."""
        for each in self.before:
            self.lines.append((self.depth, each, line))
        self.before = []
        self.lines.append((self.depth, text, line))

    def _declared(self, local: Local, value: str = "") -> str:
        return f"{self.names.declare(local.type, self.local(local))}{f' = {value}' if value else ''};"

    def _open(self, block: Block, function: Function, locals: list[Local]) -> None:
        """Declare at the top what is not declared where it is first assigned."""
        for local in locals:
            if isinstance(local.type, Struct | Array) or local.captured or self.places.needs_top(local):
                if id(local) in self.places.counters:
                    continue
                zero = (
                    " = {}"
                    if local.captured and isinstance(local.type, Struct | Array)
                    else " = 0"
                    if local.captured
                    else ""
                )
                self.lines.append((self.depth, self._declared(local)[:-1] + zero + ";", 0))
                self.shown.add(id(local))
        if self.lines:
            self.lines.append((0, "", 0))

    def block(self, block: Block) -> None:
        """Statements in order."""
        for each in block.statements:
            self.statement(each)

    def inner(self, block: Block) -> None:
        """Statements one level deeper."""
        self.depth += 1
        self.block(block)
        self.depth -= 1

    def statement(self, node: Stmt) -> None:
        """One statement."""
        handler: Any = _STATEMENTS[type(node)]
        self.functions.now = node.line
        handler(self, node)

    # -- kinds -------------------------------------------------------------------------------------------------------

    def _assign(self, node: Assign) -> None:
        slot = self._slot(node.target)
        if slot is not None:
            self._into_slot(node, slot)
            return
        if isinstance(node.target, Var) and isinstance(node.value, StructLit):
            for line in self.filled(self.local(node.target.local), node.value):
                self.put(line, node.line)
            return
        if isinstance(node.target, Var):
            local = node.target.local
            value = self.converted(node.value)
            if id(local) not in self.shown and self.places.declares(local, node):
                self.shown.add(id(local))
                self.put(self._declared(local, value), node.line)
                return
            start, _, rest = value.partition(f"{self.local(local)} ")
            step = node.value.operand if isinstance(node.value, Cast) else node.value
            if not start and isinstance(step, Binary) and isinstance(step.left, Var) and step.left.local is local:
                op, _, rest = rest.partition(" ")
                if op == _C_OPERATORS.get(step.op) and step.type == local.type:
                    short = "++" if (op, rest) == ("+", "1") else "--" if (op, rest) == ("-", "1") else f" {op}= {rest}"
                    self.put(f"{self.local(local)}{short};", node.line)
                    return
            self.put(f"{self.local(local)} = {value};", node.line)
            return
        if isinstance(node.value, StructLit) and isinstance(node.value.type, Struct):
            for line in self.filled(self.place(node.target), node.value):
                self.put(line, node.line)
            return
        target, value = self.place(node.target), self.converted(node.value)
        if node.op and value == "1" and node.op in "+-":
            self.put(f"{'(' + target + ')' if target.startswith('*') else target}{node.op * 2};", node.line)
            return
        self.put(f"{target} {node.op}= {value};", node.line)

    def _into_slot(self, node: Assign, slot: MapSlot) -> None:
        name = self.fresh("slot")
        declared = self.names.declare(Ptr(slot.map.value or VOID), name)
        self.put(f"{declared} = {self.lookup(slot)};", node.line)
        path = self.in_slot(node.target, name)
        if isinstance(node.value, StructLit):
            self.put(f"if ({name}) {{", node.line)
            self.depth += 1
            for line in self.filled(path, node.value):
                self.put(line, node.line)
            self.depth -= 1
            self.put("}", 0)
            return
        if node.op in ("//", "%", "<<", ">>"):
            local = Local(path, node.target.type)
            self.renamed[id(local)] = path
            self._kept.append(local)
            value = self.text(Binary(node.target.type, node.op, Var(node.target.type, local), node.value))
            self.put(f"if ({name})", node.line)
            self.lines.append((self.depth + 1, f"{path} = {value};", node.line))
            return
        value = self.converted(node.value)
        for line in self.before:
            self.lines.append((self.depth, line, node.line))
        self.before = []
        self.put(f"if ({name})", node.line)
        self.lines.append((self.depth + 1, f"{path} {node.op}= {value};", node.line))

    _kept: list[Local] = []  # noqa: RUF012 -- ids in `renamed` must not be used twice

    def _copy(self, node: Copy) -> None:
        slot = self._slot(node.target)
        target = self.place(node.target)
        if slot is not None:
            name = self.fresh("slot")
            declared = self.names.declare(Ptr(slot.map.value or VOID), name)
            self.put(f"{declared} = {self.lookup(slot)};", node.line)
            self.put(f"if ({name}) {{", node.line)
            target = self.in_slot(node.target, name)
        if isinstance(node.target, Deref) and target.startswith("*"):
            target = f"({target})"
        for line in self.copied(target, node.target.type, node.value):
            self.put(line, node.line)
        if slot is not None:
            self.put("}")

    def _expression(self, node: ExprStmt) -> None:
        text = self.text(node.value)
        if isinstance(node.value, Binary):
            text = f"(void)({text})"
        self.put(f"{text};", node.line)

    def _if(self, node: If, word: str = "if") -> None:
        test = self.text(node.test)
        if self.before and word != "if":
            self.lines.append((self.depth, "} else {", 0))
            self.depth += 1
            self._if(node)
            self.depth -= 1
            self.lines.append((self.depth, "}", 0))
            return
        if word == "if":
            self.put(f"if ({test}) {{", node.line)
        else:
            self.lines.append((self.depth, f"}} else if ({test}) {{", node.line))
        self.inner(node.then)
        other = node.other.statements
        if len(other) == 1 and isinstance(other[0], If):
            self._if(other[0], "else")
            return
        if other:
            self.lines.append((self.depth, "} else {", 0))
            self.inner(node.other)
        self.lines.append((self.depth, "}", 0))

    def _while(self, node: While) -> None:
        test = self.text(node.test)
        if self.before:
            before, self.before = self.before, []
            self.put("while (1) {", node.line)
            self.depth += 1
            for each in before:
                self.put(each, node.line)
            self.put(f"if (!({test}))", node.line)
            self.lines.append((self.depth + 1, "break;", node.line))
            self.depth -= 1
        else:
            self.put(f"while ({'1' if test == 'true' else test}) {{", node.line)
        self._loop_body(node.body)

    def _loop_body(self, body: Block) -> None:
        self.loops += 1
        releases, self.releases = self.releases, []
        self._outer.append(releases)
        self.inner(body)
        self._outer.pop()
        self.releases = releases
        self.loops -= 1
        self.lines.append((self.depth, "}", 0))

    _outer: list[list[tuple[Expr, int]]] = []  # noqa: RUF012 -- locks held outside of the loops

    def _for(self, node: For) -> None:
        start, stop = self.text(node.start), self.text(node.stop, 11)
        name = self.local(node.local)
        local = node.local
        counter = name
        declared = ""
        if node.own_counter:
            counter = self.fresh("i")
            declared = f"{self.names.declare(local.type)} "
        elif id(local) not in self.shown:
            declared = f"{self.names.declare(local.type)} "
        if not node.bounded:
            self._open_coded(node, counter, declared, start, stop)
            return
        op = "<" if node.step > 0 else ">"
        test = f"{counter} {op} {stop}"
        if node.limit is not None and node.step > 0 and node.start.const is not None:
            pass
        advance = {1: f"{counter}++", -1: f"{counter}--"}.get(
            node.step, f"{counter} {'+' if node.step > 0 else '-'}= {abs(node.step)}"
        )
        if node.step < 0 and isinstance(local.type, Int) and not local.type.signed:
            advance = f"{counter} -= {-node.step}"
        self.put(f"for ({declared}{counter} = {start}; {test}; {advance}) {{", node.line)
        if node.own_counter:
            self.depth += 1
            self.put(f"{name} = {counter};", node.line)
            self.depth -= 1
        self._loop_body(node.body)

    def _open_coded(self, node: For, counter: str, declared: str, start: str, stop: str) -> None:
        """A bound that is not known: the kernel's own iterator counts (Linux 6.4)."""
        name = self.local(node.local)
        if node.step == 1 and not node.own_counter:
            if declared:
                self.put(f"{declared}{counter};", node.line)
            self.put(f"bpf_for({counter}, {start}, {stop}) {{", node.line)
            self._loop_body(node.body)
            return
        counter = self.fresh("i")
        rounds = self._rounds(node.start, node.stop, node.step, node.local.type)
        self.put(f"int {counter};", node.line)
        self.put(f"bpf_for({counter}, 0, {rounds}) {{", node.line)
        self.depth += 1
        first = self.text(node.start, 12)
        if id(node.local) not in self.shown:
            self.put(f"{self.names.declare(node.local.type)} {name};", node.line)
        scaled = counter if abs(node.step) == 1 else f"{counter} * {abs(node.step)}"
        value = scaled if first == "0" and node.step > 0 else f"{first} {'+' if node.step > 0 else '-'} {scaled}"
        self.put(f"{name} = {value};", node.line)
        self.depth -= 1
        self._loop_body(node.body)

    def _rounds(self, start: Expr, end: Expr, step: int, kind: Type) -> str:
        """How many rounds a range has; too many or less than 0 where it has none, which the kernel takes for none."""
        first, stop = self.text(start, 12), self.text(end, 12)
        rounds = stop if first == "0" and step == 1 else f"{stop} - {first}" if step > 0 else f"{first} - {stop}"
        if abs(step) != 1:
            rounds = f"({rounds} + {abs(step) - 1}) / {abs(step)}"
            if start.type == end.type and isinstance(kind, Int) and kind.signed:
                some = f"{stop} {'<' if step < 0 else '>'} {first}"
                rounds = f"{some} ? (u32)({rounds.rpartition(' / ')[0]}) / {abs(step)} : 0"
        return rounds

    def _each(self, node: Each) -> None:
        name = self.local(node.local)
        if id(node.local) not in self.shown:
            self.put(self._declared(node.local), node.line)
            self.shown.add(id(node.local))
        given = "".join(f", {self.converted(each)}" for each in node.arguments)
        self.put(f"bpf_for_each({node.kind}, {name}{given}) {{", node.line)
        self._loop_body(node.body)

    def _lock(self, node: Lock) -> None:
        self.put(f"{self.text(node.enter)};", node.line)
        self.releases.append((node.leave, len(self.in_closure)))
        self.block(node.body)
        self.releases.pop()
        last = node.body.statements[-1] if node.body.statements else None
        if not isinstance(last, Return):
            self.put(f"{self.text(node.leave)};", node.line)

    def _return(self, node: Return) -> None:
        held = [*self.releases, *(each for outer in self._outer for each in outer)]
        value = "" if node.value is None else self.converted(node.value)
        if self.in_closure:
            closure, _ = self.in_closure[-1]
            if value:
                self.put(f"ctx_->result_ = {value};", node.line)
            self.put("ctx_->returned_ = 1;", node.line)
            self.put("return 1;", node.line)
            assert closure.has_return
            return
        if held and value and node.value is not None and node.value.const is None:
            result = self.fresh("result")
            self.put(f"{self.names.declare(self.current.returns, result)} = {value};", node.line)
            value = result
        for leave, _ in reversed(held):
            self.put(f"{self.text(leave)};", node.line)
        if not value and self.current.kind == "program" and not self._is_void(self.current):
            value = "0"
        self.put(f"return {value};" if value else "return;", node.line)

    def _break(self, node: Break) -> None:
        self.put("return 1;" if self._leaves_closure() else "break;", node.line)

    def _continue(self, node: Continue) -> None:
        self.put("return 0;" if self._leaves_closure() else "continue;", node.line)

    def _leaves_closure(self) -> bool:
        return bool(self.in_closure) and self.in_closure[-1][1] == self.loops

    # -- bodies that the kernel calls ----------------------------------------------------------------------------------

    def _closure_names(self, closure: Closure) -> tuple[str, str]:
        stem = f"{self.current.name}_each{closure.index}_"
        return f"struct {stem}ctx", stem

    def _closure_head(self, closure: Closure) -> tuple[str, tuple[str, str]]:
        """A body's function, and what its locals are given."""
        struct, name = self._closure_names(closure)
        if closure.kind == "count":
            scaled = "index_" if abs(closure.step) == 1 else f"index_ * {abs(closure.step)}"
            return f"static long {name}(u64 index_, {struct} *ctx_)", (
                f"ctx_->start_ {'+' if closure.step > 0 else '-'} {scaled}",
                "",
            )
        found = closure.subject.type.map  # type: ignore[attr-defined]
        key, value = self.names.declare(Ptr(found.key), "key_"), self.names.declare(Ptr(found.value), "value_")
        return f"static long {name}(struct bpf_map *map, {key}, {value}, {struct} *ctx_)", ("key_", "value_")

    def _closure_function(self, closure: Closure) -> list[tuple[int, str, int]]:
        struct, _ = self._closure_names(closure)
        out: list[tuple[int, str, int]] = [(0, f"{struct} {{", 0)]
        out += [
            (1, self.names.declare(local.type, self.names.inner(local.name)) + ";", 0) for local in closure.captured
        ]
        if closure.kind == "count" and closure.start is not None:
            out.append((1, self.names.declare(closure.start.type, "start_") + ";", 0))
        if closure.has_return:
            out.append((1, "int returned_;", 0))
            if self.current.returns != VOID:
                out.append((1, self.names.declare(self.current.returns, "result_") + ";", 0))
        if len(out) == 1:
            out.append((1, "int unused_;", 0))
        out += [(0, "};", 0), (0, "", 0)]
        saved = (self.renamed, self.depth, self.lines, self.releases, self.loops, self.shown)
        self.renamed = {
            **self.renamed,
            **{id(local): f"ctx_->{self.names.inner(local.name)}" for local in closure.captured},
        }
        self.depth, self.lines, self.releases, self.loops = 1, [], [], 0
        head, slots = self._closure_head(closure)
        self.in_closure.append((closure, 0))
        inner = [each for each in closure.own if not any(each is other for other in closure.locals)]
        nested = {
            id(each)
            for other in self.current.closures
            if other is not closure and within(other, closure)
            for each in [*other.own, *other.locals]
            if each is not None
        }
        self.shown = set()
        self._open(closure.body, self.current, [each for each in inner if id(each) not in nested])
        for local, text in zip(closure.locals, slots, strict=True):
            if local is None:
                continue
            if closure.kind == "map" and isinstance(local.type, Int):
                text = f"*{text}"
            if any(local is each for each in closure.captured):
                self.put(f"{self.local(local)} = {text};", closure.line)
            else:
                self.shown.add(id(local))
                self.put(self._declared(local, text), closure.line)
        self.block(closure.body)
        self.in_closure.pop()
        body = self.lines
        self.renamed, self.depth, self.lines, self.releases, self.loops, self.shown = saved
        return [*out, (0, head, closure.line), (0, "{", 0), *body, (1, "return 0;", 0), (0, "}", 0), (0, "", 0)]

    def _closure(self, node: Closure) -> None:
        struct, name = self._closure_names(node)
        variable = f"each{node.index}_"
        self.put("{", node.line)
        self.depth += 1
        self.put(f"{struct} {variable} = {{}};", node.line)
        self.put("", 0)
        for local in node.captured:
            text, inner = self.local(local), self.names.inner(local.name)
            if isinstance(local.type, Struct | Array):
                self.put(f"__builtin_memcpy(&{variable}.{inner}, &{text}, sizeof({text}));", node.line)
            else:
                self.put(f"{variable}.{inner} = {text};", node.line)
        if node.kind == "count" and node.start is not None:
            self.put(f"{variable}.start_ = {self.text(node.start)};", node.line)
            rounds = self._rounds(node.start, node.subject, node.step, node.start.type)
            self.put(f"bpf_loop({rounds}, {name}, &{variable}, 0);", node.line)
        else:
            self.put(f"bpf_for_each_map_elem({self.text(node.subject)}, {name}, &{variable}, 0);", node.line)
        for local in node.captured:
            text, inner = self.local(local), self.names.inner(local.name)
            if isinstance(local.type, Struct | Array):
                self.put(f"__builtin_memcpy(&{text}, &{variable}.{inner}, sizeof({text}));", node.line)
            elif isinstance(local.type, Int) or local.type == BOOL:
                self.put(f"{text} = {variable}.{inner};", node.line)
        if node.has_return:
            self.put(f"if ({variable}.returned_) {{", node.line)
            self.depth += 1
            result = f"{variable}.result_" if self.current.returns != VOID else ""
            if self.in_closure:
                if result:
                    self.put(f"ctx_->result_ = {result};", node.line)
                self.put("ctx_->returned_ = 1;", node.line)
                self.put("return 1;", node.line)
            else:
                self.put(f"return {result or ('0' if self.current.kind == 'program' else '')};", node.line)
            self.depth -= 1
            self.put("}")
        self.depth -= 1
        self.put("}")


_STATEMENTS = {
    Assign: CStatements._assign, Copy: CStatements._copy, ExprStmt: CStatements._expression, If: CStatements._if,
    While: CStatements._while, For: CStatements._for, Each: CStatements._each, Closure: CStatements._closure,
    Lock: CStatements._lock, Return: CStatements._return, Break: CStatements._break, Continue: CStatements._continue,
}  # fmt: skip
