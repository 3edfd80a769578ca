"""Every decoder: what it makes of bytes, what of what it does not know, and what is kept."""

from __future__ import annotations

import os
import re
import socket
import struct
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpf2py.errors import EncodeError
from bpf2py.export.config import Decoder, Label
from bpf2py.export.decoder_table import DECODERS
from bpf2py.export.decoders import _FUNCTIONS, Decoders, KeyDecoder, Names, Skipped
from bpf2py.export.names import Cgroups, PciIds, Table
from bpf2py.uapi.syscalls import syscall_names

PCI = """# comment
8086  Intel Corporation
\t1000  82542 Gigabit Ethernet Controller (Fiber)
\t\t0e11 b0df  a subsystem
C 02  Network controller
\t00  Ethernet controller
"""
U64 = struct.Struct("=Q")


@pytest.fixture
def decoders(tmp_path: Path) -> Decoders:
    (tmp_path / "pci.ids").write_text(PCI)
    (tmp_path / "cgroup" / "system.slice").mkdir(parents=True)
    made = Decoders(Names(Cgroups(str(tmp_path / "cgroup")), PciIds((str(tmp_path / "pci.ids"),))))
    made.names.devices = Table(lambda: {(8, 0): "sda"})
    made.names.symbols._lines = [
        b"ffffffff81000000 T _stext",
        b"ffffffff81000100 t do_work",
        b"ffffffffc0000000 t f\t[mod]",
    ]
    made.names.symbols._read_at = float("inf")  # never again
    return made


def chain(*names: str, **said: object) -> list[Decoder]:
    return [Decoder(name, **said) if name == names[-1] else Decoder(name) for name in names]  # type: ignore[arg-type]


def little(number: int, size: int) -> bytes:
    return number.to_bytes(size, sys.byteorder)


CASES: list[tuple[bytes, list[Decoder], str]] = [
    (little(300, 2), chain("uint"), "300"),
    (little(2**64 - 1, 8), chain("uint"), str(2**64 - 1)),
    (little(2**32 - 2, 4), chain("int"), "-2"),
    (b"\x01\xab", chain("hex"), "01ab"),
    (b"bash\0rubbish\0\0\0\0", chain("string"), "bash"),
    (b"\xff\xfe\0", chain("string"), "\ufffd\ufffd"),
    (bytes([1, 2, 3, 4]), chain("inet_ip"), "1.2.3.4"),
    (socket.inet_pton(socket.AF_INET6, "2400:cb00::a29e"), chain("inet_ip"), "2400:cb00::a29e"),
    (socket.inet_pton(socket.AF_INET6, "::ffff:1.2.3.4"), chain("inet_ip"), "1.2.3.4"),
    (b"\x07example\x03com\0\0\0", chain("string", "dname"), "example.com"),
    (b"\x07exam", chain("string", "dname"), "\x07exam"),
    (b"\0", chain("string", "dname"), "."),
    (little(2, 4), chain("uint", "static_map", static_map={"2": "write"}), "write"),
    (little(3, 4), chain("uint", "static_map", static_map={"2": "write"}), "unknown:3"),
    (little(3, 4), chain("uint", "static_map", static_map={"2": "write"}, allow_unknown=True), "3"),
    (b"sshd\0", chain("string", "regexp", regexps=(re.compile("^cron$"), re.compile("^ssh"))), "sshd"),
    (b"kswapd0\0", chain("string", "regexp", regexps=(re.compile("^(kswapd).*$"), re.compile("^.*$"))), "kswapd"),
    (b"ls\0", chain("string", "regexp", regexps=(re.compile("^(kswapd).*$"), re.compile("^.*$"))), "ls"),
    (little(2, 4), chain("uint", "errno"), "ENOENT"),
    (little(95, 4), chain("uint", "errno"), "EOPNOTSUPP"),
    (little(4000, 4), chain("uint", "errno"), "unknown:4000"),
    (little(next(n for n, name in syscall_names().items() if name == "openat"), 8), chain("uint", "syscall"), "openat"),
    (little(99999, 8), chain("uint", "syscall"), "unknown_syscall:99999"),
    (little(8 << 8, 4), chain("majorminor"), "sda"),
    (bytes([0x10, 0x88, 0, 0]), chain("majorminor"), "unknown:136:16"),
    (little(8 << 8 | 300 << 12 & 0xFFF00000 | 300 & 0xFF, 4), chain("majorminor"), "unknown:8:300"),
    (little(0x8086, 4), chain("uint", "pci_vendor"), "Intel Corporation"),
    (little(0x1234, 4), chain("uint", "pci_vendor"), "unknown pci vendor: 0x1234"),
    (little(0x80861000, 4), chain("uint", "pci_device"), "82542 Gigabit Ethernet Controller (Fiber)"),
    (little(0x80861001, 4), chain("uint", "pci_device"), "unknown pci device: 0x80861001"),
    (little(2, 2), chain("uint", "pci_class"), "Network controller"),
    (little(9, 2), chain("uint", "pci_class"), "unknown pci class: 0x09"),
    (little(0x0200, 2), chain("uint", "pci_subclass"), "Ethernet controller"),
    (little(0x0207, 2), chain("uint", "pci_subclass"), "unknown pci subclass: 0x07 (class 0x02)"),
    (little(0x0907, 2), chain("uint", "pci_subclass"), "unknown pci class: 0x09"),
    (U64.pack(0xFFFFFFFF81000123), chain("ksym"), "do_work"),
    (U64.pack(0xFFFFFFFFC0000010), chain("ksym"), "f"),
    (U64.pack(0x1000), chain("ksym"), "unknown_addr:0x1000"),
    (struct.pack("=4Q", 0xFFFFFFFF81000123, 0x1000, 0xFFFFFFFF81000001, 0), chain("kstack"), "do_work\n??\n_stext"),
    (struct.pack("=3Q", 0xFFFFFFFF81000100, 0x10, 0), chain("lbr"), "0xffffffff81000100 -> 0x00000010 | do_work -> ??"),
    (little(1, 4), chain("ifname"), socket.if_indextoname(1)),
    (little(10**9, 4), chain("ifname"), f"unknown:{10**9}"),
    (little(10**15, 8), chain("uint", "cgroup"), f"unknown_cgroup_id:{10**15}"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "steps", "text"), CASES)
def test_what_is_made_of_bytes(decoders: Decoders, data: bytes, steps: list[Decoder], text: str) -> None:
    assert decoders.decode(data, steps) == text


def test_every_decoder_of_the_table_is_there_and_tried() -> None:
    assert set(_FUNCTIONS) == set(DECODERS)
    assert {step.name for _, steps, _ in CASES for step in steps} | {"cgroup"} == set(DECODERS)


@pytest.mark.parametrize(
    ("data", "name"),
    [(b"abc", "uint"), (b"abc", "inet_ip"), (b"abc", "ksym"), (b"abc", "kstack"), (b"abc", "lbr"), (b"abc", "ifname"),
     (b"abc", "majorminor"), (b"abc", "errno"), (b"", "syscall"), (b"9" * 30, "cgroup"), (b"-1", "pci_class")],
)  # fmt: skip
def test_bytes_a_decoder_cannot_take(decoders: Decoders, data: bytes, name: str) -> None:
    with pytest.raises(EncodeError, match=f"decoder {name} "):
        decoders.decode(data, chain(name))


def test_a_set_without_a_match_is_left_out(decoders: Decoders) -> None:
    with pytest.raises(Skipped):
        decoders.decode(b"bash\0", chain("string", "regexp", regexps=(re.compile("^ssh"),)))


def test_without_the_list_of_pci_devices() -> None:
    made = Decoders(Names(Cgroups("/nowhere"), PciIds(("/nowhere/pci.ids",))))
    assert made.decode(little(0x8086, 4), chain("uint", "pci_vendor")) == "missing pci.ids db"


def test_cgroups_come_and_go(tmp_path: Path) -> None:
    now = [0.0]
    cgroups = Cgroups(str(tmp_path))
    cgroups._table = Table(cgroups._walk, lambda: now[0])
    made = Decoders(Names(cgroups))

    def text(ident: int) -> str:
        return made.decode(little(ident, 8), chain("uint", "cgroup"))

    one, two = tmp_path / "one", tmp_path / "one" / "two"
    two.mkdir(parents=True)
    first, second = os.stat(one).st_ino, os.stat(two).st_ino
    assert text(second) == str(two)
    assert text(first) == str(one)
    two.rmdir()
    assert second not in cgroups.refresh()
    assert text(second) == str(two)  # its counts are still in the map
    three = tmp_path / "three"
    three.mkdir()
    third = os.stat(three).st_ino
    if third != second:  # numbers of tmpfs may come again; those of cgroups do not
        assert text(third) == f"unknown_cgroup_id:{third}"
        assert made.passing  # and is not kept
        now[0] += 2  # looked for again, though not at every key
        assert text(third) == str(three)


# -- keys ------------------------------------------------------------------------------------------------------------

KEY = [
    Label("op", 1, (Decoder("uint"),), 3),
    Label("", 4, ()),
    Label("comm", 4, (Decoder("string"),)),
]


def test_labels_by_their_place_in_the_key() -> None:
    keys = KeyDecoder(Decoders(Names(Cgroups("/nowhere"))), KEY)
    assert keys.size == 12
    assert keys.labels(b"\x07???....sh\0\0") == ("7", "sh")
    assert keys.labels(b"\x07!!!----sh\0\0") == ("7", "sh")


def test_what_is_kept_is_bounded() -> None:
    keys = KeyDecoder(Decoders(Names(Cgroups("/nowhere"))), [Label("n", 4, (Decoder("uint"),))], most=100)
    for number in range(10_000):
        assert keys.labels(little(number, 4)) == (str(number),)
        assert len(keys) <= 100
    assert keys.labels(little(9_999, 4)) == ("9999",)


def test_names_that_may_change_are_not_kept(decoders: Decoders) -> None:
    keys = KeyDecoder(decoders, [Label("device", 4, (Decoder("majorminor"),))])
    key = little(8 << 8, 4)
    assert keys.labels(key) == ("sda",)
    decoders.names.devices = Table(lambda: {(8, 0): "sdb"})
    assert keys.labels(key) == ("sdb",)
    assert len(keys) == 0


def test_errors_name_the_label() -> None:
    keys = KeyDecoder(Decoders(Names(Cgroups("/nowhere"))), [Label("n", 3, (Decoder("uint"),))])
    with pytest.raises(EncodeError, match="label n: decoder uint does not take 3 bytes"):
        keys.labels(b"abc")


@given(
    st.lists(st.sampled_from(sorted(set(DECODERS) - {"static_map", "regexp"})), min_size=1, max_size=3),
    st.binary(max_size=48),
)
def test_any_bytes_make_text_or_a_typed_error(names: list[str], data: bytes) -> None:
    label = Label("l", max(1, len(data)), tuple(Decoder(name) for name in names))
    try:
        made = KeyDecoder(ANYTHING, [label]).labels(data)
    except EncodeError:
        return
    assert made is not None
    made[0].encode()  # no half characters


ANYTHING = Decoders(Names(Cgroups("/nowhere"), PciIds(("/nowhere",))))
