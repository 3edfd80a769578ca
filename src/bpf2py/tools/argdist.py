"""argdist: values that functions and tracepoints are called with, or return, counted or as a histogram.

What is counted is written as expressions, of which a program in Python (`bpf2py.lang`) is made.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence

from bpf2py._typing import NamedTuple
from bpf2py.errors import BpfError, SourceError
from bpf2py.kernel.tracefs import Tracefs
from bpf2py.lang.translate import CFLAGS, finish, to_c
from bpf2py.maps.histogram import Histogram
from bpf2py.toolchain.compiler import compile
from bpf2py.tools.containers import Containers
from bpf2py.tools.framework import CONTAINER, RETURN_ADDRESS, Chart, Column, Filter, Record, Table, Tool
from bpf2py.tools.points import Points, parse

__all__ = ["Argdist"]

ARGUMENTS = 5
TEXT = 80  # bytes of a text that is counted, with its NUL
CASTS = {"u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64", "bool", "min", "max", "abs"}
CONTEXT = {
    "pid": "s64(current_tgid())",
    "tid": "s64(current_pid())",
    "uid": "s64(current_uid())",
    "cpu": "s64(get_smp_processor_id())",
}
SLOTS, NEGATIVE = 64, 64  # of a histogram, and in which place what is below 0 is counted
HOOKS = {
    "function": ("uprobe", "uretprobe"), "kernel": ("kprobe", "kretprobe"), "tracepoint": ("tracepoint", ""), "usdt": ("usdt", ""),
}  # fmt: skip


class _Field(NamedTuple):
    """Of a tracepoint: the language's expression, and whether that is a text."""

    place: str
    is_text: bool


class Argdist(Tool):
    """Counts of values, or their histogram.

    Args:
        wanted: whom to watch.
        point: a function or tracepoint, as `points.parse` takes it; not a pattern.
        expressions: what to count, in Python's words: ``arg1`` ... ``arg5``, ``ret``, ``latency`` (nanoseconds), ``pid``, ``tid``,
            ``uid``, ``cpu``, ``comm``, ``str(arg1)``, fields of a tracepoint; operators, and casts such as ``u32(arg1)``.
        condition: an expression; only where it is true.
        histogram: of a single expression, by powers of two.
        unit: of a histogram, such as ``"bytes"`` or ``"nsecs"``.
        top: rows.
        by_container: whether each container's values are counted for themselves.
    """

    def __init__(
        self,
        wanted: Filter,
        point: str,
        expressions: Sequence[str],
        *,
        condition: str = "",
        histogram: bool = False,
        unit: str = "value",
        top: int = 20,
        by_container: bool = False,
    ) -> None:
        if histogram and len(expressions) != 1:
            raise BpfError("--histogram: give one expression")
        self._expressions, self._top, self._histogram, self._unit = list(expressions), top, histogram, unit
        self._point = parse(point)
        if self._point.many:
            raise BpfError(f"{point!r}: values of one function or tracepoint can be counted, not of a pattern")
        made = _Maker(self._point, self._expressions, condition, histogram, by_container)
        try:
            text = to_c(made.source(), "argdist.py", directives=False)
        except SourceError as error:
            raise BpfError(f"{' '.join([*expressions, condition]).strip()}: {error.msg}") from None
        self._object = finish(compile(text, cflags=CFLAGS))
        super().__init__(wanted)
        self._texts = made.texts
        if by_container:
            self.containers = Containers()

    def _source(self) -> bytes:
        return self._object

    def attach(self) -> None:
        # First who returns: what began before is not known, and what begins from then on is seen to end.
        point = self._point
        name = point.names[0].replace(":", "/") if point.kind == "tracepoint" else point.names[0]
        target = f"{point.binary}:{name}" if point.binary else name
        for program in ("on_return", "on_entry"):
            if program in self.obj.programs:
                self.obj.programs[program].attach(target=target)

    def results(self) -> Iterator[Table | Chart]:
        if self._histogram:
            yield from self._charts()
            return
        names = [f"v{number}" for number in range(len(self._expressions))]
        rows: list[Record] = []
        for key, count in self.obj.maps["counts"].items():
            rows.append(
                {"count": count}
                | (self.container(key.cgroup) if self.containers is not None else {})
                | dict(zip(self._expressions, (getattr(key, n) for n in names), strict=True))
            )
        rows.sort(key=lambda row: -row["count"])
        columns = [Column("count", "COUNT", 10, True), *([CONTAINER] if self.containers is not None else [])]
        for number, expression in enumerate(self._expressions):
            text = number in self._texts
            columns.append(Column(expression, expression, 20 if text else max(12, len(expression)), not text))
        yield Table(columns, rows[: self._top])

    def _charts(self) -> Iterator[Chart]:
        slots: dict[int, list[int]] = {} if self.containers is not None else {0: [0] * SLOTS}
        below: dict[int, int] = {}
        for key, count in self.obj.maps["slots"].items():
            if key.slot == NEGATIVE:
                below[key.cgroup] = count
                slots.setdefault(key.cgroup, [0] * SLOTS)
            else:
                slots.setdefault(key.cgroup, [0] * SLOTS)[key.slot] = count
        expression = self._expressions[0]
        for cgroup, counts in sorted(slots.items(), key=lambda each: -sum(each[1])):
            histogram, negative = Histogram.log2(counts, self._unit), below.get(cgroup, 0)
            fields = self.container(cgroup)
            where = f" in {fields['container']}" if fields.get("container") else ""
            title = f"{expression}{where}: {histogram.total} values" + (f", and {negative} below 0" if negative else "")
            counted: Record = {"expression": expression, "count": histogram.total, "negative": negative}
            yield Chart(title, counted | fields, histogram)


class _Maker:
    """Makes the program. Raises BpfError for expressions that are not known."""

    def __init__(
        self, point: Points, expressions: Sequence[str], condition: str, histogram: bool, by_container: bool
    ) -> None:
        self._point, self._histogram = point, histogram
        self._group = "get_current_cgroup_id()" if by_container else "0"
        self._fields = _fields(point) if point.kind == "tracepoint" else {}
        self._used: set[str] = set()
        trees = [_parsed(each) for each in [*expressions, *([condition] if condition else [])]]
        for tree in trees:
            self._used |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        self._returns = bool(self._used & {"ret", "latency"}) and point.kind in ("function", "kernel")
        self.texts: dict[int, list[str]] = {}
        self._values: list[str] = []
        for number, tree in enumerate(trees[: len(expressions)]):
            text = self._text(tree, f"key.v{number}")
            if text is not None:
                self.texts[number] = text
            self._values.append("" if text is not None else self._number(tree))
        if histogram and self.texts:
            raise BpfError(f"--histogram: {expressions[0]} is a text")
        self._condition = self._number(trees[-1]) if condition else ""

    def _text(self, tree: ast.expr, into: str) -> list[str] | None:
        """The lines that store a text; None for an expression that is a number."""
        if isinstance(tree, ast.Name):
            if tree.id == "comm":
                return [f"current_comm({into})"]
            field = self._fields.get(tree.id)
            if field is not None and field.is_text:
                return [f"read_kernel_str({into}, {field.place})"]
        if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and tree.func.id == "str":
            if len(tree.args) != 1 or tree.keywords:
                raise BpfError(f"{ast.unparse(tree)}: str() takes an address")
            read = "read_kernel_str" if self._point.kind == "kernel" else "read_user_str"
            return [f"{read}({into}, u64({self._number(tree.args[0])}))"]
        return None

    def _number(self, tree: ast.expr) -> str:
        """The language's expression for one that is a number."""
        return ast.unparse(_Renamed(self._name).visit(tree))

    def _name(self, name: str) -> str:
        if name in CONTEXT:
            return CONTEXT[name]
        field = self._fields.get(name)
        if field is not None:
            if field.is_text:
                raise BpfError(f"{name} is a text; it can be counted, but not calculated with")
            return field.place
        kind = self._point.kind
        if name == "ret" and self._returns:
            return "s64(PT_REGS_RC(ctx))"
        if name == "latency" and self._returns:
            return "s64(ktime_get_ns() - begin_ns)"
        number = int(name[3:]) if re.fullmatch(rf"arg[1-{ARGUMENTS}]", name) else 0
        if number and kind == "usdt":
            return name
        if number and kind in ("function", "kernel"):
            return f"args{number}" if self._returns else f"s64(PT_REGS_PARM{number}(ctx))"
        known = [*CONTEXT, "comm", *self._fields]
        if kind != "tracepoint":
            known += [f"arg{n}" for n in range(1, ARGUMENTS + 1)] + (["ret", "latency"] if kind != "usdt" else [])
        raise BpfError(f"{name!r} is not known of {self._point.text}; there are: {', '.join(known)}")

    def source(self) -> str:
        lines = ['"""Values that a function is called with, or returns."""', "", *_IMPORTS, "", ""]
        if self._histogram:
            lines += ["class Key(Struct):", "    cgroup: u64", "    slot: u64", "", ""]
            lines += ["slots = Hash[Key, u64](max_entries=10_240)", "lost: u64 = 0"]
        else:
            lines += ["class Key(Struct):", "    cgroup: u64"]
            for number in range(len(self._values)):
                lines.append(f"    v{number}: " + (f"char[{TEXT}]" if number in self.texts else "s64"))
            lines += ["", "", "counts = Hash[Key, u64](max_entries=10_240)", "lost: u64 = 0"]
        if self._returns:
            lines += ["", "", *_CALLS]
        lines += ["", ""]
        entry, leave = HOOKS[self._point.kind]
        if self._point.kind == "tracepoint":
            entry = f'tracepoint("{self._point.names[0].replace(":", "/")}")'
        if not self._returns:
            lines += ["", f"@{entry}", f"def on_entry({self._parameters()}) -> int:", *self._body()]
        else:
            lines += ["", f"@{entry}", *_ENTRY, "", "", f"@{leave}", *_RETURN, *self._body()]
        return "\n".join(lines) + "\n"

    def _parameters(self) -> str:
        if self._point.kind == "tracepoint":
            return "ctx: TracepointContext"
        if self._point.kind == "usdt":
            most = max((int(name[3:]) for name in self._used if re.fullmatch(r"arg[1-5]", name)), default=0)
            return ", ".join(["ctx: KprobeContext", *(f"arg{n}: s64" for n in range(1, most + 1))])
        return "ctx: KprobeContext"

    def _body(self) -> list[str]:
        lines = [] if self._returns else ["if not is_wanted():", "    return 0"]
        if self._condition:
            lines += [f"if not ({self._condition}):", "    return 0"]
        if self._histogram:
            lines += [
                f"value: s64 = {self._values[0]}",
                f"slot: u64 = {NEGATIVE}",
                "if value >= 0:",
                "    slot = log2(u64(value))",
                f"count = slots.setdefault(Key(cgroup={self._group}, slot=slot))",
            ]
        else:
            lines.append(f"key = Key(cgroup={self._group})")
            for number, value in enumerate(self._values):
                lines += self.texts.get(number) or [f"key.v{number} = {value}"]
            lines.append("count = counts.setdefault(key)")
        lines += [
            "if count is None:",
            "    atomic_add(addr(lost), 1)",
            "    return 0",
            "atomic_add(count, 1)",
            "return 0",
        ]
        return [f"    {line}" for line in lines]


class _Renamed(ast.NodeTransformer):
    """Names in place of which the language's expressions stand."""

    def __init__(self, name: Callable[[str], str]) -> None:
        self._name = name

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.parse(self._name(node.id), mode="eval").body

    def visit_Call(self, node: ast.Call) -> ast.expr:
        if not isinstance(node.func, ast.Name) or node.func.id not in CASTS or node.keywords:
            raise BpfError(f"{ast.unparse(node)}: only casts, such as u32(arg1), min, max and abs can be called")
        node.args = [self.visit(each) for each in node.args]
        return node


ALLOWED = (
    ast.BinOp, ast.BoolOp, ast.UnaryOp, ast.Compare, ast.IfExp, ast.Name, ast.Constant, ast.Call, ast.operator, ast.boolop,
    ast.unaryop, ast.cmpop, ast.expr_context,
)  # fmt: skip


def _parsed(text: str) -> ast.expr:
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise BpfError(
            f"{text!r} is not an expression: write it as in arg1, ret < 0, str(arg2), u32(arg3) & 7"
        ) from None
    for node in ast.walk(tree):
        if not isinstance(node, ALLOWED) or (isinstance(node, ast.Constant) and type(node.value) is not int):
            raise BpfError(f"{text!r}: {ast.unparse(node)!r} cannot be part of such an expression")
    return tree


def _fields(point: Points) -> dict[str, _Field]:
    """What a tracepoint has, by the names in its format file."""
    category, _, name = point.names[0].partition(":")
    try:
        with Tracefs() as tracefs:
            text = tracefs.read(f"events/{category}/{name}/format")
    except OSError:
        raise BpfError(f"{point.text!r}: there is no such tracepoint") from None
    found: dict[str, _Field] = {}
    own = text.partition("\n\n")[2] or text
    declared = re.findall(r"field:(?P<type>[^;]*?)(?P<name>\w+)(?P<array>\[\w*\])?;\s*offset:(\d+);", own)
    system_call = name.startswith("sys_enter_") and category == "syscalls"
    place = -1  # of system calls the number comes first
    for kind, field, array, _ in declared:
        if field.startswith("common_"):
            continue
        if kind.strip().startswith("__data_loc"):
            found[field] = _Field(f"u64(ctx) + (ctx.__data_loc_{field} & 0xFFFF)", "char" in kind)
        elif array:
            found[field] = _Field(f"ctx.{field}", "char" in kind)
        elif system_call:
            if place >= 0:
                found[field] = _Field(f"s64(ctx.args[{place}])", False)
            place += 1
        else:
            found[field] = _Field(f"s64(ctx.{field})", False)
    if system_call:
        found |= {f"arg{n}": _Field(f"s64(ctx.args[{n - 1}])", False) for n in range(1, ARGUMENTS + 1)}
        found.pop("__syscall_nr", None)
    return found


_IMPORTS = """\
from bpf2py.lang import *
from bpf2py.tools.programs.log2 import log2
from bpf2py.tools.programs.whom import *""".splitlines()
_CALLS = """\
class Call(Struct):
    stack: u64  # where its return address is: no two calls of a thread that have not returned have the same
    thread: u32
    unused: u32


class Begun(Struct):
    begin_ns: u64
    args: array[s64, 5]


started = LruHash[Call, Begun](max_entries=65_536)""".splitlines()
_ENTRY = """\
def on_entry(ctx: KprobeContext) -> int:
    if not is_wanted():
        return 0
    begun = Begun(begin_ns=ktime_get_ns())
    begun.args[0] = s64(PT_REGS_PARM1(ctx))
    begun.args[1] = s64(PT_REGS_PARM2(ctx))
    begun.args[2] = s64(PT_REGS_PARM3(ctx))
    begun.args[3] = s64(PT_REGS_PARM4(ctx))
    begun.args[4] = s64(PT_REGS_PARM5(ctx))
    started[Call(stack=PT_REGS_SP(ctx), thread=current_pid())] = begun
    return 0""".splitlines()
_RETURN = f"""\
def on_return(ctx: KprobeContext) -> int:
    call = Call(stack=PT_REGS_SP(ctx) - {RETURN_ADDRESS}, thread=current_pid())
    begun = started.get(call)
    if begun is None:
        return 0
    begin_ns = begun.begin_ns
    args1 = begun.args[0]
    args2 = begun.args[1]
    args3 = begun.args[2]
    args4 = begun.args[3]
    args5 = begun.args[4]
    started.delete(call)""".splitlines()
