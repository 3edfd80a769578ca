"""Where the types of a name are, remembered from one process to the next: the same answers, also where the file is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from bpf2py.btf.reader import Btf
from bpf2py.btf.vmlinux import VMLINUX

NAMES = ("task_struct", "bpf_map_type", "no_such_name", "u64", "BPF_MAP_TYPE_HASH")


def answers(btf: Btf) -> list[list[int]]:
    return [each for name in NAMES for each in (btf.ids_by_name(name), btf.ids_mentioning(name))]


@pytest.mark.kernel
def test_answers_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BPF2PY_CACHE_DIR", str(tmp_path))
    data = Path(VMLINUX).read_bytes()
    first = Btf(data, name="vmlinux")
    expected = answers(first)
    assert expected[0]
    assert expected[-1]
    first.keep_names()
    (file,) = (tmp_path / "btf").glob("*-names")
    with monkeypatch.context() as without:
        without.setattr(Btf, "_find_string", lambda *_: pytest.fail("looked up again"))
        assert answers(Btf(data, name="vmlinux")) == expected
    whole = file.read_bytes()
    for damaged in (b"", whole[:30], whole[:-2], whole.replace(b"[", b"{"), whole[:-1] + b" ", b"x" + whole):
        file.write_bytes(damaged)
        again = Btf(data, name="vmlinux")
        assert answers(again) == expected
    again.keep_names()
    assert file.read_bytes() == whole
