"""Which types mention a name, remembered from one process to the next: the same answers, also where the file is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from bpf2py.btf.reader import Btf
from bpf2py.btf.vmlinux import VMLINUX

NAMES = ("tgid", "XDP_PASS", "no_such_name", "BPF_MAP_TYPE_HASH")


def answers(btf: Btf) -> list[list[int]]:
    return [btf.ids_mentioning(name) for name in NAMES]


@pytest.mark.kernel
def test_answers_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BPF2PY_CACHE_DIR", str(tmp_path))
    data = Path(VMLINUX).read_bytes()
    first = Btf(data, name="vmlinux")
    expected = answers(first)
    assert expected[0]
    assert expected[-1]
    first.keep_mentions()
    (file,) = (tmp_path / "btf").glob("*-mentions")
    with monkeypatch.context() as without:
        without.setattr(Btf, "_find_word", lambda *_: pytest.fail("looked up again"))
        assert answers(Btf(data, name="vmlinux")) == expected
    whole = file.read_bytes()
    for damaged in (b"", whole[:30], whole[:-2], whole.replace(b"[", b"{"), whole[:-1] + b" ", b"x" + whole):
        file.write_bytes(damaged)
        again = Btf(data, name="vmlinux")
        assert answers(again) == expected
    again.keep_mentions()
    assert file.read_bytes() == whole
