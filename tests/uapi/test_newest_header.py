"""The tables of kernel facts have what the newest UAPI header at hand has, so that objects for newer kernels are read and named."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

import bpf2py
from bpf2py.kernel.link_info import LINK_TYPES
from bpf2py.uapi.commands import SINCE, Command
from bpf2py.uapi.map_types import MAP_TYPE_INFO, MapFlags, MapType, UpdateFlags
from bpf2py.uapi.program_types import AttachType, ProgramType

FORMER = {"CGROUP_STORAGE_DEPRECATED", "PERCPU_CGROUP_STORAGE_DEPRECATED"}


@pytest.fixture(scope="module")
def header() -> str:
    found = find_spec("ziglang")
    if found is None or found.origin is None:
        pytest.skip("ziglang, which brings the headers, is not installed")
    text = (Path(found.origin).parent / "lib/libc/include/any-linux-any/linux/bpf.h").read_text()
    return re.sub(r"//.*|/\*.*?\*/", "", text, flags=re.S)


def enum(header: str, start: str) -> dict[str, int]:
    """Names and numbers of the enum that has an enumerator, or a name, before its first brace closes."""
    (body,) = [
        text for name, text in re.findall(r"enum\s*(\w*)\s*\{(.*?)\}", header, re.S) if start in (name, *text.split())
    ]
    found: dict[str, int] = {}
    number = -1
    for item in body.split(","):
        name, _, value = item.strip().partition("=")
        if not name.strip():
            continue
        number = eval(re.sub(r"(?<=\d)U(LL)?", "", value), {}, found) if value else number + 1
        found[name.strip()] = number
    return {name: number for name, number in found.items() if not name.startswith("__")}


def test_map_types(header: str) -> None:
    named = {name.removeprefix("BPF_MAP_TYPE_"): number for name, number in enum(header, "bpf_map_type").items()}
    assert {name: number for name, number in named.items() if name not in FORMER} == {
        kind.name: kind.value for kind in MapType
    }
    assert set(MAP_TYPE_INFO) == set(MapType) - {MapType.UNSPEC}


def test_program_and_attach_types(header: str) -> None:
    programs = {name.removeprefix("BPF_PROG_TYPE_"): number for name, number in enum(header, "bpf_prog_type").items()}
    assert programs == {kind.name: kind.value for kind in ProgramType}
    attach = {name.removeprefix("BPF_"): number for name, number in enum(header, "bpf_attach_type").items()}
    assert attach == {kind.name: kind.value for kind in AttachType}


def test_commands(header: str) -> None:
    named = {name.removeprefix("BPF_"): number for name, number in enum(header, "bpf_cmd").items()}
    assert named.pop("COMMON_ATTRS", 1 << 16) == 1 << 16  # a flag
    assert named.pop("PROG_RUN", 10) == Command.PROG_TEST_RUN  # another name
    assert named == {command.name: command.value for command in Command}
    assert set(SINCE) == set(Command)


def test_flags(header: str) -> None:
    create = {name.removeprefix("BPF_F_"): number for name, number in enum(header, "BPF_F_NO_PREALLOC").items()}
    assert create == {flag.name: flag.value for flag in MapFlags}
    update = {re.sub("^BPF_(F_)?", "", name): number for name, number in enum(header, "BPF_NOEXIST").items()}
    assert update == {"ANY": 0} | {flag.name: flag.value for flag in UpdateFlags}


def test_link_types(header: str) -> None:
    named = {
        name.removeprefix("BPF_LINK_TYPE_").lower(): number for name, number in enum(header, "bpf_link_type").items()
    }
    assert named == {name: number for number, name in enumerate(LINK_TYPES)}


def test_a_map_type_of_later_kernels_is_read_and_refused_with_its_version() -> None:
    data = bpf2py.compile(
        "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n"
        'struct { __uint(type, 35); __uint(max_entries, 9); __type(key, int); __type(value, long); } table SEC(".maps");\n'
    )
    spec = bpf2py.ObjectSpec.from_bytes(data)
    assert (spec.maps["table"].type, spec.maps["table"].type_name) == (MapType.RHASH, "RHASH")
    with pytest.raises(bpf2py.NotSupported):
        bpf2py.load(spec, "engine")


@pytest.mark.kernel
def test_this_kernel_says_which_one_has_it() -> None:
    if bpf2py.features.map_type("rhash"):
        pytest.skip("this kernel has it")
    with pytest.raises(bpf2py.NotSupported, match=r"map type RHASH needs Linux 7\.2"):
        bpf2py.Map.create("RHASH", key="u32", value="u64", max_entries=8)
