"""What is refused: at which line and column, and what to write instead."""

from __future__ import annotations

import ast
import io
import random
import tokenize
import traceback
from pathlib import Path

import pytest

import bpf2py
from bpf2py.errors import CompileError, SourceError
from bpf2py.lang.translate import to_c

HERE = Path(__file__).parent
HEAD = """from bpf2py.lang import *
class Ev(Struct):
    pid: u32
    comm: char[16]
m = Hash[u32, u64](max_entries=8)
ev = Hash[u32, Ev](max_entries=8)
rb = RingBuf[Ev](size=4096)
arr = Array[u32, u64](max_entries=4)
g: u64 = 0
c: Const[u32] = 3
class Locked(Struct):
    lock: bpf_spin_lock
    n: u64
locked = Array[u32, Locked](max_entries=1)
def made() -> Ptr[Ev] | None: return rb.reserve()
def sent(event: Ptr[Ev]) -> None: rb.submit(event)
def same(event: Ptr[Ev]) -> Ptr[Ev]: return event
def count() -> u64: return ktime_get_ns()
@syscall
def f(ctx: Context) -> int:
"""
FIRST = HEAD.count("\n") + 1

# (body, line within it, column, end column, part of the message)
BODIES = [
    ("x = m[3]", 1, 5, 9, "p = m.get(key)"),
    ("p = m.get(1)\np.value = 3", 2, 1, 8, "may be None"),
    ("e = rb.reserve()", 2, 1, 9, "neither submitted nor discarded"),
    ("e = rb.reserve()\nif e:\n    if g:\n        rb.submit(e)", 5, 1, 9, "on some ways"),
    ("e = rb.reserve()\nif e is None:\n    return 0\nif g:\n    return 1\nrb.submit(e)", 5, 5, 13, "neither submitted"),
    ("e = rb.reserve()\nif e:\n    rb.submit(e)\n    rb.submit(e)", 4, 15, 16, "already"),
    ("p = m.get(1)\nif p:\n    x = p[1]", 3, 9, 13, "(8 bytes are left"),
    ("p = ev.get(1)\nif p:\n    x = (p + 1).pid", 3, 9, 20, "beyond what is known to be there"),
    ("p = ev.get(1)\nif p:\n    x = p.cast(u8)[40]", 3, 9, 23, "beyond"),
    ("for i in range(3):\n    e = rb.reserve()", 1, 1, 21, "same round"),
    ("e = made()\nif e is None:\n    return 0", 4, 1, 9, "'e' (reserved in line 21) is neither submitted"),
    ("e = rb.reserve()\nif e:\n    sent(e)\n    e.pid = 3", 4, 5, 6, "already"),
    ("e = rb.reserve()\nif e:\n    p = e\n    rb.submit(p)\n    e.pid = 3", 5, 5, 6, "already"),
    ("e = rb.reserve()\nif e:\n    rb.submit(same(e))\n    rb.submit(e)", 4, 15, 16, "already"),
    ("e = ringbuf_reserve(rb, 24, 0)", 2, 1, 9, "neither submitted nor discarded"),
    ("t = bpf_task_from_pid(1)\nif t:\n    return 1", 3, 5, 13, "bpf_task_release() does it"),
    ("v = locked.get(0)\nif v:\n    with v.lock:\n        m[1] = 2", 4, 9, 17, "while a spin lock is held"),
    ("v = locked.get(0)\nif v:\n    with v.lock:\n        v.n = count()", 4, 15, 22, "which count calls"),
    (
        "v = locked.get(0)\nif v:\n    spin_lock(v.lock)\n    if v.n:\n        return 1\n    spin_unlock(v.lock)",
        5,
        9,
        17,
        "the lock that",
    ),
    ("p = ev.get(1)\ny = p.pidd if p else 0", 2, 5, 11, "did you mean 'pid'"),
    ("x = ktime_get_nss()", 1, 5, 18, "did you mean 'ktime_get_ns'"),
    ("x: u32 = -1", 1, 10, 12, "does not fit u32"),
    ("x = u32(5) << 32", 1, 5, 17, "only 0 to 31"),
    ("a = g\nb = s64(c)\nx = a < b - 9", 3, 5, 14, "around the u64"),
    ("x = 1 / 2", 1, 5, 10, "//"),
    ("x = 2.5", 1, 5, 8, "floats"),
    ("while True:\n    x = 1", 1, 1, None, "never ends"),
    ("c = 4", 1, 1, 2, "global c"),
    ("global c\nc = 4", 2, 1, 2, "constant"),
    ("x = 'abc'", 1, 5, 10, "char[16]"),
    ("x = [1, 2]", 1, 5, 11, "array[u32, 8]"),
    ("assert g", 1, 1, 9, "return"),
    ("try:\n    x = 1\nexcept ValueError:\n    pass", 1, 1, None, "exceptions"),
    ("x = lambda: 1", 1, 5, 14, "write def"),
    ("x = arr[4]", 1, 9, 10, "no [4]"),
    ("x = arr[c]", 1, 5, 11, "arr.get(i)"),
    ("m['a'] = 3", 1, 1, 11, "text is not u32"),
    ("m.gett(1)", 1, 1, 7, "did you mean 'get'"),
    ("x = f(ctx)", 1, 5, 6, "the kernel calls"),
    ("if g:\n    x = 1\nreturn s32(x)", 3, 12, 13, "may have no value"),
    ("b = char[600]()", 1, 1, 2, "stack has 512"),
    ("e = Ev(pid=1 << 40)", 1, 12, 19, "does not fit u32"),
    ("x = u8(c) + 256", 1, 5, 16, "u16(...)"),
    ("x = c == -1", 1, 5, 12, "s64(...)"),
    ("x = 1\nx = m.get(1)", 2, 1, 2, "one type"),
    ("t = Ptr['task_struct'](get_current_task())\nx = t.pidd", 2, 5, 11, "task_struct has no field 'pidd'"),
    ("t = Ptr['task_struct'](get_current_task())\nt.pid = 1", 2, 1, 6, "only be read"),
    ("for i in m:\n    with g:\n        pass", 2, 10, 11, "spin lock"),
    ("g == 3", 1, 1, 7, "did you mean ="),
    ("x = not_there", 1, 5, 14, "there is no 'not_there'"),
]
MODULES = [
    (
        "@subprogram\ndef b() -> u32:\n    y = char[300]()\n    current_comm(y)\n    return y[0]\n"
        "@syscall\ndef a(ctx: Context) -> int:\n    x = char[300]()\n    current_comm(x)\n    return s32(b()) + x[0]\n",
        7,
        1,
        "a and b, which call each other, take 608 bytes",
    ),
    ("ops = StructOps[tcp_congestion_ops](init=nothing)\n", 1, 42, "'nothing' is not a @struct_ops program"),
    ("@iter('task')\ndef f(ctx: IterContext) -> int:\n    return ctx.task.pid\n", 3, 12, "may be None"),
    ("x = 3\nx = 4\n", 2, 1, "already"),
    ("class A(Struct):\n    x: flot\n", 2, 8, "no type 'flot'"),
    ("class A(Struct):\n    def f(self) -> int: return 1\n", 2, 5, "no methods"),
    ("class A(Struct):\n    x: Annotated[u32]\n", 2, 8, 'write Annotated[u64, "metric:counter"]'),
    ("class A(Struct):\n    x: Annotated[u32, 3]\n", 2, 23, "text in a line"),
    ("x: Annotated[u32, 'a\\nb'] = 0\n", 1, 19, "text in a line"),
    ("m = Hash[u32](max_entries=3)\n", 1, 5, "key and a value"),
    ("m = Hash[u32, u64]()\n", 1, 5, "max_entries"),
    ("r = RingBuf[u32](size=5000)\n", 1, 5, "power of 2"),
    ("m = Hsh[u32, u64](max_entries=3)\n", 1, 5, "did you mean 'Hash'"),
    ("@kprob('x')\ndef f(ctx: Context) -> int:\n    return 0\n", 1, 2, "did you mean 'kprobe'"),
    ("@xdp('eth0')\ndef f(ctx: XdpContext) -> int:\n    return 0\n", 1, 2, "no target"),
    ("def a(x: u32) -> u32:\n    return b(x)\ndef b(x: u32) -> u32:\n    return a(x)\n", 1, 1, "a calls b calls a"),
    ("def a(x) -> u32:\n    return x\n", 1, 7, "annotation"),
    ("@tp_btf('sched_switch')\ndef f(a: bool, b: Ptr['sock']) -> int:\n    return 0\n", 2, 19, "task_struct"),
    ("print(3)\n", 1, 1, "functions"),
    ("x: u8 = 256\n", 1, 9, "does not fit u8"),
    ("def f() -> u32:\n    pass\n", 2, 5, "without a value"),
    ("for i in range(3): pass\n", 1, 1, "functions"),
    ("x = (\n", 1, 5, "not Python"),
]


def refused(text: str) -> SourceError:
    with pytest.raises(SourceError) as caught:
        to_c(text, "program.py")
    return caught.value


@pytest.mark.parametrize("case", BODIES, ids=lambda case: case[0].splitlines()[-1])
def test_a_statement_is_refused_where_it_stands(case: tuple[str, int, int, int | None, str]) -> None:
    body, line, column, end, message = case
    lines = [*body.split("\n"), *([] if "return s32" in body else ["return 0"])]
    error = refused(HEAD + "".join(f"    {each}\n" for each in lines))
    assert (error.lineno, error.offset) == (FIRST + line - 1, column + 4), error.msg
    assert end is None or error.end_offset == end + 4
    assert message in error.msg


@pytest.mark.parametrize("case", MODULES, ids=lambda case: case[0].splitlines()[0])
def test_a_declaration_is_refused_where_it_stands(case: tuple[str, int, int, str]) -> None:
    text, line, column, message = case
    error = refused("from bpf2py.lang import *\n" + text)
    assert (error.lineno, error.offset) == (line + 1, column), error.msg
    assert message in error.msg


def test_a_refusal_is_a_syntax_error_that_shows_the_place(tmp_path: Path) -> None:
    path = tmp_path / "wrong.py"
    path.write_text("from bpf2py.lang import *\n@xdp\ndef f(ctx: XdpContext) -> int:\n    return ctx.lenn\n")
    with pytest.raises(CompileError) as caught:
        bpf2py.load(path, "engine")
    error = caught.value
    assert isinstance(error, SyntaxError)
    assert str(error).splitlines()[0].startswith(f"{path}:4:12: the kernel's xdp_md has no field 'lenn'")
    shown = "".join(traceback.format_exception_only(error))
    assert f'File "{path}", line 4' in shown
    assert "^^^^^^^^" in shown


def test_the_verifier_speaks_of_the_programs_line(tmp_path: Path) -> None:
    path = tmp_path / "unbounded.py"
    path.write_text(
        "from bpf2py.lang import *\ntable: array[u64, 4] = [1, 2]\n@xdp\n"
        "def f(ctx: XdpContext) -> int:\n    return s32(table[ctx.rx_queue_index])\n"
    )
    from tests.conftest import REFUSED

    if REFUSED is not None:
        pytest.skip(REFUSED)
    with pytest.raises(bpf2py.errors.VerifierError) as caught:
        bpf2py.load(path)
    assert caught.value.source_line is not None
    assert caught.value.source_line.startswith(f"{path}:5")
    assert "if i >= len(a): return 0" in str(caught.value)


TOKENS = (
    "+ - * // % << >> & | ^ == != < > and or not is in . ( ) [ ] : , = += / ** None True 0 -1 1.5 'x' lambda yield [1,2] {} "
    "f'{x}' await del global raise u8 u64 return Ptr"
).split()


def mutated(source: random.Random, text: str, names: list[str]) -> str:
    lines = text.split("\n")
    pick = source.random()
    one, other = source.randrange(len(lines)), source.randrange(len(lines))
    if pick < 0.15:
        del lines[one]
    elif pick < 0.25:
        lines[one], lines[other] = lines[other], lines[one]
    elif pick < 0.32:
        lines.insert(one, lines[other])
    else:
        try:
            tokens = [t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.string.strip()]
        except (tokenize.TokenError, SyntaxError):
            return text
        token = source.choice(tokens)
        if token.start[0] == token.end[0]:
            new = source.choice(
                [source.choice(names), source.choice(names), source.choice(TOKENS), "", f"{token.string} - 1"]
            )
            line = lines[token.start[0] - 1]
            lines[token.start[0] - 1] = line[: token.start[1]] + new + line[token.end[1] :]
    return "\n".join(lines)


def test_malformed_programs_are_refused_or_compile(tmp_path: Path) -> None:
    files = (
        sorted((HERE / "kinds").glob("*.py"))
        + sorted((HERE / "pairs").glob("*.py"))
        + sorted((HERE.parent.parent / "examples" / "python").glob("*.py"))
    )
    texts = [path.read_text() for path in files]
    names = sorted({node.id for text in texts for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)})
    source = random.Random(14)
    accepted = 0
    errors = []
    compiled: set[str] = set()
    for _ in range(500):
        text = source.choice(texts)
        for _ in range(source.choice([1, 1, 2, 3])):
            text = mutated(source, text, names)
        try:
            accepted += bool(to_c(text, "mutated.py"))
            if text not in texts and len(compiled) < 16:
                compiled.add(text)
        except SourceError as error:
            errors.append((error, text.count("\n") + 1))
    for refusal, lines in errors:
        assert refusal.filename == "mutated.py"
        assert refusal.lineno is not None
        assert 1 <= refusal.lineno <= lines
        assert (refusal.offset or 0) >= 1
    assert 10 < accepted < 300
    for text in compiled:
        path = tmp_path / "mutated.py"
        path.write_text(text)
        bpf2py.compile(path)  # what the front end lets pass, clang does
