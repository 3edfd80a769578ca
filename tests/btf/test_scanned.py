"""Offsets of a large blob's types, kept in a file: believed only where they are this blob's."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path
from typing import Any

import pytest

from bpf2py.btf import reader
from bpf2py.btf.reader import Btf

NAMES = b"\0" + b"".join(b"n%06d\0" % number for number in range(1000))


def blob(seed: int, count: int = 60_000) -> bytes:
    """BTF with so many integers and structs of 0 to 3 members."""
    chance = random.Random(seed)
    rows = []
    for number in range(count):
        name = 1 + 8 * (number % 1000)
        members = chance.randrange(4) if number else 0
        if members:
            rows.append(struct.pack("<III", name, 4 << 24 | members, 4 * members))
            rows += [struct.pack("<III", name, 1, 32 * each) for each in range(members)]
        else:
            rows.append(struct.pack("<IIII", name, 1 << 24, 4, 32))
    types = b"".join(rows)
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(NAMES)) + types + NAMES


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BPF2PY_CACHE_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each time the records were walked."""
    made: list[int] = []
    real = reader._scan

    def scan(types: memoryview, name: str) -> Any:
        made.append(len(types))
        return real(types, name)

    monkeypatch.setattr(reader, "_scan", scan)
    return made


def same(one: Btf, two: Btf) -> bool:
    ids = [1, 2, 3, len(one) // 2, len(one) - 1]
    return one._offsets == two._offsets and all(one.type(each).kind == two.type(each).kind for each in ids)


def test_the_records_are_walked_once(directory: Path, scans: list[int]) -> None:
    data = blob(1)
    first, second = Btf(data), Btf(data)
    assert len(scans) == 1
    assert same(first, second)
    (file,) = (directory / "btf").iterdir()
    assert file.stat().st_mode & 0o077 == 0


def test_small_ones_leave_nothing_behind(directory: Path, scans: list[int]) -> None:
    Btf(blob(1, 1000))
    assert not (directory / "btf").exists()


def test_those_of_another_blob_are_not_believed(
    directory: Path, scans: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = blob(1), blob(2)
    Btf(one)
    (file,) = (directory / "btf").iterdir()
    monkeypatch.setattr("bpf2py.btf.scanned.place_of", lambda *_: file)
    assert same(Btf(two), Btf(two))
    assert len(scans) == 2  # the first of these two walked, and wrote its own


@pytest.mark.parametrize("damage", ["cut", "empty", "longer", "bits", "text", "directory", "others"])
def test_damaged_files_are_written_anew(directory: Path, scans: list[int], damage: str) -> None:
    data = blob(3)
    whole = Btf(data)
    (file,) = (directory / "btf").iterdir()
    good = file.read_bytes()
    chance = random.Random(damage)
    for _ in range(20 if damage == "bits" else 1):
        scans.clear()
        if damage == "directory":
            file.unlink()
            file.mkdir()
        elif damage == "others":
            file.chmod(0o666)
        elif damage == "bits":
            changed = bytearray(good)
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
            file.write_bytes(changed)
        else:
            file.write_bytes({"cut": good[:-7], "empty": b"", "longer": good + bytes(4), "text": b"x" * 100}[damage])
        assert same(Btf(data), whole)
        assert len(scans) == 1


@pytest.mark.skipif(os.name == "nt", reason="directories of Windows have no mode")
def test_a_directory_that_others_may_write_to_is_left_alone(directory: Path, scans: list[int]) -> None:
    directory.chmod(0o777)
    data = blob(1)
    assert same(Btf(data), Btf(data))
    assert len(scans) == 2
    assert not (directory / "btf").exists()


FLAVOURED = b"\0one\0one___old\0one___b\0two\0___x\0\xc3\xbcber\0\xff\0"


def named(count: int = 70_000) -> bytes:
    """BTF of integers with these names in turn, the last ones without a name, or with a name that is the tail of another."""
    places = [at for at in range(len(FLAVOURED)) if at == 0 or FLAVOURED[at - 1] == 0][1:-1]
    words = [*(places[number % len(places)] for number in range(count)), 0, places[3] + 1]
    types = b"".join(struct.pack("<IIII", word, 1 << 24, 4, 32) for word in words)
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(FLAVOURED)) + types + FLAVOURED


@pytest.mark.parametrize(
    "name", ["one", "one___old", "two", "___x", "\u00fcber", "\udcff", "none", "", "one___", "o\0ne"]
)
def test_names_are_found_as_by_searching(directory: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = named()
    first, second = Btf(data), Btf(data)
    monkeypatch.setattr(reader, "LARGE", 1 << 40)
    searching = Btf(data)
    assert searching._names is None
    for btf in (first, second):
        assert btf._names is not None
        assert btf.ids_by_name(name) == searching.ids_by_name(name)
        assert btf.ids_by_essential_name(name) == searching.ids_by_essential_name(name)


def test_names_of_another_blob_are_not_believed(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = named(), named().replace(b"two\0", b"six\0")
    Btf(one)
    (file,) = (directory / "btf").iterdir()
    monkeypatch.setattr("bpf2py.btf.scanned.place_of", lambda *_: file)
    assert Btf(two).ids_by_name("two") == []
    assert len(Btf(two).ids_by_name("six")) > 10_000


@pytest.mark.kernel
def test_names_of_the_kernel_are_found_as_by_searching(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Path("/sys/kernel/btf/vmlinux").read_bytes()
    indexed = Btf(data)
    monkeypatch.setattr(reader, "LARGE", 1 << 40)
    searching = Btf(data)
    names = {searching.type(each).name for each in range(1, len(searching), 2500)} | {
        "task_struct",
        "vfs_read",
        "pt_regs",
    }
    for name in names:
        assert indexed.ids_by_name(name) == searching.ids_by_name(name), name
        assert indexed.ids_by_essential_name(name) == searching.ids_by_essential_name(name), name
