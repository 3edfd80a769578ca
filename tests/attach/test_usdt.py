"""USDT probes: notes, argument specs, and programs attached to a process that fires probes of its own."""

from __future__ import annotations

import platform
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bpf2py
from bpf2py.kernel import usdt_specs
from bpf2py.kernel.syscall import older_than
from bpf2py.kernel.usdt_args import Arg, Where, parse_args
from bpf2py.kernel.usdt_notes import read_notes

HERE = Path(__file__).parent


class Target:
    """The running program; `fire()` fires each of its probes once and returns how many listen to demo:heeded."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.pid = self.process.pid

    def fire(self, byte: int = 3) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(bytes([byte]))
        return int(self.process.stdout.read(1))

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Compile the target, with further flags."""
    directory = tmp_path_factory.mktemp("usdt")
    cc = shutil.which("cc")
    command = [cc] if cc is not None else [sys.executable, "-m", "ziglang", "cc"]

    def compile(name: str, *flags: str) -> Path:
        path = directory / name
        if not path.exists():
            common = ["-O1", "-mno-red-zone"] if platform.machine() == "x86_64" else ["-O1"]
            subprocess.run([*command, *common, *flags, "-o", path, HERE / "usdt_target.c"], check=True)
        return path

    return compile


@pytest.fixture
def binary(build: Callable[..., Path]) -> Path:
    return build("target")


@pytest.fixture
def target(binary: Path) -> Iterator[Target]:
    running = Target(binary)
    yield running
    running.close()


@pytest.fixture(scope="session")
def usdt_spec() -> bpf2py.ObjectSpec:
    return bpf2py.ObjectSpec.from_bytes(bpf2py.compile(HERE / "usdt.bpf.c"), "usdt")


@pytest.fixture(params=["multi", "one by one"])
def obj(request: pytest.FixtureRequest, usdt_spec: bpf2py.ObjectSpec, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The loaded object, once for each way of attaching."""
    if older_than("5.15"):
        pytest.skip("needs Linux 5.15")
    if request.param == "one by one":
        monkeypatch.setattr(usdt_specs, "MULTI_SINCE", "99.0")
    elif not usdt_specs.uses_multi():
        pytest.skip("needs Linux 6.10")
    with bpf2py.load(usdt_spec) as loaded:
        yield loaded


def value(obj: Any, name: str) -> Any:
    return obj.variables[name].value


@pytest.mark.kernel
def test_registers_constants_and_memory(obj: Any, target: Target, binary: Path) -> None:
    with obj.programs["record"].attach(binary=binary, provider="demo", name="plain", pid=target.pid, cookie=77) as link:
        target.fire(3)
        assert value(obj, "runs") == 1
        assert value(obj, "count") == 6
        assert value(obj, "size") == 4
        assert value(obj, "cookie") == 77
        assert value(obj, "tgid") == target.pid
        # -4@register, 8@register, -4@constant, 8@memory, -2@indexed memory, 1@low byte of a register
        assert list(value(obj, "args"))[:6] == [-3, -125, -7, 0x1122334455667788, -3, 0x83]
        assert list(value(obj, "errors")) == [0] * 6 + [-2, -2]
        assert link.hook == f"usdt/{binary}:demo:plain"
    target.fire()
    assert value(obj, "runs") == 1, "closing the link detaches"


@pytest.mark.kernel
@pytest.mark.fires("usdt.s")
def test_programs_that_may_sleep(usdt_spec: bpf2py.ObjectSpec, target: Target, binary: Path) -> None:
    spec = usdt_spec.copy()
    for name, program in spec.programs.items():
        program.autoload = name == "may_sleep"
    with bpf2py.load(spec) as loaded, loaded.programs["may_sleep"].attach(target=f"{binary}:demo:plain"):
        target.fire(3)
        assert (value(loaded, "runs"), value(loaded, "args")[0], value(loaded, "errors")[7]) == (1, -3, -14)


@pytest.mark.kernel
def test_stack_memory(obj: Any, target: Target, binary: Path) -> None:
    with obj.programs["record"].attach(target=f"{binary}:demo:stack"):
        target.fire(4)
        assert value(obj, "count") == 2
        assert list(value(obj, "args"))[:2] == [-4, -124]


@pytest.mark.kernel
def test_a_probe_without_arguments(obj: Any, target: Target, binary: Path) -> None:
    with obj.programs["record"].attach(target=f"{binary}:demo:none"):
        target.fire()
        assert (value(obj, "runs"), value(obj, "count"), value(obj, "size")) == (1, 0, -2)
        assert value(obj, "cookie") == 0


@pytest.mark.kernel
@pytest.mark.fires("usdt")
def test_every_location_is_attached(obj: Any, target: Target, binary: Path) -> None:
    with obj.programs["sum"].attach(target=f"{binary}:demo:twice"):
        target.fire(9)
        assert value(obj, "runs") == 2
        assert value(obj, "args")[7] == -9 + 5, "each location has its own arguments"


@pytest.mark.kernel
def test_semaphore_counts_listeners(obj: Any, target: Target, binary: Path) -> None:
    assert target.fire() == 0
    with obj.programs["record"].attach(target=f"{binary}:demo:heeded"):
        assert target.fire(6) == 1
        assert value(obj, "args")[0] == -6
        with obj.programs["sum"].attach(target=f"{binary}:demo:heeded"):
            target.fire()
            assert value(obj, "runs") == 3
    assert target.fire() == 0
    assert value(obj, "runs") == 3


@pytest.mark.kernel
def test_only_the_process_asked_for(obj: Any, target: Target, binary: Path) -> None:
    other = Target(binary)
    try:
        with obj.programs["record"].attach(target=f"{binary}:demo:plain", pid=other.pid):
            target.fire()
            assert value(obj, "runs") == 0
            other.fire()
            assert value(obj, "runs") == 1
    finally:
        other.close()


@pytest.mark.kernel
def test_slots_are_shared_and_freed(obj: Any, binary: Path, assert_no_leaks: Any) -> None:
    """The map has four slots: more attachments than that fit when arguments agree, or others ended."""
    program = obj.programs["record"]
    with assert_no_leaks():
        same = [program.attach(target=f"{binary}:demo:plain") for _ in range(6)]
        others = [program.attach(target=f"{binary}:demo:plain", cookie=i) for i in (1, 2, 3)]
        with pytest.raises(bpf2py.AttachError, match=r"all 4 slots .* BPF_USDT_MAX_SPEC_CNT"):
            program.attach(target=f"{binary}:demo:plain", cookie=4)
        others.pop().close()
        others.append(program.attach(target=f"{binary}:demo:plain", cookie=4))
        for link in same + others:
            link.close()
    for cookie in range(5, 20):
        program.attach(target=f"{binary}:demo:twice", cookie=cookie).close()


@pytest.mark.kernel
@pytest.mark.parametrize("flags", [("-no-pie",), ("-pie", "-fPIE", "-Wl,-z,separate-code")])
def test_kinds_of_executables(usdt_spec: bpf2py.ObjectSpec, build: Callable[..., Path], flags: tuple[str, ...]) -> None:
    """By the section's name, with typed arguments."""
    path = build("target" + "".join(flags), *flags)
    spec = usdt_spec.copy()
    for name in ("record", "sum"):
        spec.programs[name].autoload = False
    spec.programs["with_types"].target = f"{path}:demo:plain"
    running = Target(path)
    with bpf2py.load(spec) as obj:
        assert len(obj.attach()) == 1
        running.fire(5)
        assert list(value(obj, "typed")) == [-5, -123, -7]
    running.close()


@pytest.mark.kernel
def test_errors_say_what_is_there(obj: Any, binary: Path, compile_bpf: Callable[[str], bytes]) -> None:
    program = obj.programs["record"]
    with pytest.raises(bpf2py.AttachError, match=r"no USDT probe 'demo:plane'; there are: demo:plain"):
        program.attach(target=f"{binary}:demo:plane")
    with pytest.raises(bpf2py.AttachError, match="argument 0 is '8f@%xmm0', which is of no known form"):
        program.attach(target=f"{binary}:demo:odd")
    with pytest.raises(bpf2py.AttachError, match="has no USDT probes"):
        program.attach(target="cat:demo:plain")
    with pytest.raises(bpf2py.AttachError, match=r"names no probe; write SEC\('usdt/BINARY:PROVIDER:NAME'\)"):
        program.attach()
    with pytest.raises(bpf2py.AttachError, match="not a 64-bit"):
        program.attach(target=f"{__file__}:demo:plain")
    with pytest.raises(bpf2py.AttachError, match="does not take the option colour"):
        program.attach(target=f"{binary}:demo:plain", colour=1)
    source = '#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\nSEC("usdt") int f(void *ctx) { return 0; }\n'
    with (
        bpf2py.load(compile_bpf(source + 'char LICENSE[] SEC("license") = "GPL";\n')) as plain,
        pytest.raises(bpf2py.AttachError, match=r"has no map __bpf_usdt_specs; #include <bpf/usdt.bpf.h>"),
    ):
        plain.programs["f"].attach(target=f"{binary}:demo:plain")


def test_notes(binary: Path) -> None:
    notes = read_notes("test", str(binary))
    by_name: dict[str, list[Any]] = {}
    for probe in notes.probes:
        assert probe.provider == "demo"
        by_name.setdefault(probe.name, []).append(probe)
    assert {name: len(probes) for name, probes in by_name.items()} == {
        "plain": 1, "none": 1, "stack": 1, "twice": 2, "heeded": 1, "odd": 1,
    }  # fmt: skip
    assert by_name["none"][0].args == ""
    data = binary.read_bytes()
    nop = b"\x90" if notes.machine == "x86_64" else b"\x1f\x20\x03\xd5"
    for probe in notes.probes:
        assert data[probe.offset : probe.offset + len(nop)] == nop
        assert bool(probe.semaphore) == (probe.name == "heeded")
    assert data[by_name["heeded"][0].semaphore :][:2] == bytes(2)


def test_damaged_files(binary: Path, tmp_path: Path) -> None:
    data = binary.read_bytes()
    damaged = tmp_path / "damaged"
    note = data.index(b"stapsdt\0") - 12
    for change in (data[:3000], data[:note] + b"\xff" * 8 + data[note + 8 :], data[:40] + b"\xff" * 8 + data[48:]):
        damaged.write_bytes(change)
        with pytest.raises(bpf2py.AttachError, match=r"damaged|cannot be read"):
            read_notes("test", str(damaged))


def test_any_damage_gives_probes_or_a_typed_error(binary: Path, tmp_path: Path) -> None:
    data, damaged, chance, read = binary.read_bytes(), tmp_path / "damaged", random.Random(7), 0
    note = data.index(b"stapsdt\0") - 12
    header = int.from_bytes(data[0x28:0x30], "little")
    for _ in range(500):
        changed = bytearray(data)
        start, size = chance.choice(((0, 0x200), (note, 600), (header, len(data) - header)))
        at = start + chance.randrange(size // 4) * 4
        changed[at : at + 4] = chance.choice((0, 1, 3, 0x7FFFFFFF, 0xFFFFFFFF)).to_bytes(4, "little")
        damaged.write_bytes(changed)
        try:
            read += len(read_notes("test", str(damaged)).probes) > 0
        except bpf2py.AttachError:
            pass
    assert read > 100


@pytest.mark.parametrize(
    ("machine", "text", "expected"),
    [
        ("x86_64", "-4@%edi", [Arg(4, True, Where.REGISTER, 0, 112)]),
        ("x86_64", "8@%r15 2@%r8w", [Arg(8, False, Where.REGISTER, 0, 0), Arg(2, False, Where.REGISTER, 0, 72)]),
        ("x86_64", "1@%ah", [Arg(1, False, Where.REGISTER, 0, 81)]),
        ("x86_64", "8@16(%rsp)", [Arg(8, False, Where.MEMORY, 16, 152)]),
        ("x86_64", "-8@-0x10(%rbp)", [Arg(8, True, Where.MEMORY, -16, 32)]),
        ("x86_64", "8@(%rax,%rbx,4)", [Arg(8, False, Where.INDEXED, 0, 80, 40, 2)]),
        ("x86_64", "4@-8(%rcx,%rdx)", [Arg(4, False, Where.INDEXED, -8, 88, 96, 0)]),
        ("x86_64", "-4@$5 4@$-1", [Arg(4, True, Where.CONSTANT, 5), Arg(4, False, Where.CONSTANT, -1)]),
        ("x86_64", "", []),
        ("aarch64", "8@[sp, 16] 4@x0", [Arg(8, False, Where.MEMORY, 16, 248), Arg(4, False, Where.REGISTER, 0, 0)]),
        ("aarch64", "-4@w12 8@[x30]", [Arg(4, True, Where.REGISTER, 0, 96), Arg(8, False, Where.MEMORY, 0, 240)]),
        ("aarch64", "-4@-5 8@xzr", [Arg(4, True, Where.CONSTANT, -5), Arg(8, False, Where.CONSTANT, 0)]),
        ("aarch64", "8@[x1, x2, lsl 3]", [Arg(8, False, Where.INDEXED, 0, 8, 16, 3)]),
    ],
)
def test_argument_specs(machine: str, text: str, expected: list[Arg]) -> None:
    assert list(parse_args("test", text, machine)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "4",
        "4@",
        "3@%edi",
        "8@%xmm0",
        "8@counter(%rip)",
        "8@(%rip)",
        "8@%rdi,",
        "8@(%rax,%rbx,3)",
        "8@$",
        "8@%rdi8@%rsi",
    ],
)
def test_arguments_no_probe_can_read(text: str) -> None:
    with pytest.raises(bpf2py.AttachError, match="argument"):
        parse_args("test", text, "x86_64")


def test_other_machines_are_named() -> None:
    with pytest.raises(bpf2py.NotSupported, match="riscv"):
        parse_args("test", "8@a0", "riscv64")
