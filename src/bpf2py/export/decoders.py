"""Decoders: from the bytes of a key to the text of labels."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
import sys
from collections.abc import Callable, Sequence

from bpf2py.errors import EncodeError
from bpf2py.export.config import Decoder, Label
from bpf2py.export.decoder_table import DECODERS, NO_PCI_IDS
from bpf2py.export.names import Cgroups, PciIds, Table, block_devices
from bpf2py.symbols.kernel import KernelSymbols
from bpf2py.uapi.syscalls import syscall_names

__all__ = ["Decoders", "KeyDecoder", "Names", "Skipped"]

Labels = tuple[str, ...]


class Skipped(Exception):
    """A regexp decoder did not match: the whole set of labels is left out."""


class Names:
    """Where decoders look names up; one for all metrics of an exporter."""

    def __init__(self, cgroups: Cgroups | None = None, pci: PciIds | None = None) -> None:
        self.cgroups = cgroups or Cgroups()
        self.symbols = KernelSymbols()
        self.devices = Table(block_devices)
        self.pci = pci or PciIds()


class Decoders:
    """Runs chains of decoders. `passing` says after `decode()` that the text may be another one later: it must not be kept."""

    def __init__(self, names: Names | None = None) -> None:
        self.names = names or Names()
        self.passing = False

    def decode(self, data: bytes, decoders: Sequence[Decoder]) -> str:
        """The text of a label. Raises Skipped, EncodeError."""
        for decoder in decoders:
            data = _FUNCTIONS[decoder.name](self, data, decoder)
        return data.decode("utf-8", "replace")

    def unknown(self, name: str, *what: object) -> bytes:
        """The text for what has no name (yet)."""
        self.passing = True
        return DECODERS[name].unknown.format(*what).encode()


class KeyDecoder:
    """Labels of the keys of a map. Keeps those it made, up to `most`.

    What was made is kept in two halves: when the newer one is full, the older one goes.
    """

    def __init__(self, decoders: Decoders, labels: Sequence[Label], most: int = 100_000) -> None:
        self._decoders = decoders
        self._half = max(1, most // 2)
        self._new: dict[bytes, Labels | None] = {}
        self._old: dict[bytes, Labels | None] = {}
        self._parts: list[tuple[str, int, int, tuple[Decoder, ...]]] = []
        self._always_passing = False
        at = 0
        for label in labels:
            if label.decoders:
                self._parts.append((label.name, at, at + label.size, label.decoders))
            at += label.size + label.padding
            self._always_passing |= any(DECODERS[each.name].passing for each in label.decoders)
        self.size = at

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def labels(self, key: bytes) -> Labels | None:
        """The labels of a key, None for one that is left out. Raises EncodeError for one that cannot be decoded."""
        try:
            return self._new[key]
        except KeyError:
            pass
        if key in self._old:
            made = self._old[key]
        else:
            self._decoders.passing = self._always_passing
            try:
                made = self._decode(key)
            except Skipped:
                made = None
            if self._decoders.passing:
                return made
        if len(self._new) >= self._half:
            self._old, self._new = self._new, {}
        self._new[key] = made
        return made

    def _decode(self, key: bytes) -> Labels:
        made = []
        for name, start, end, decoders in self._parts:
            try:
                made.append(self._decoders.decode(key[start:end], decoders))
            except (ValueError, struct.error, OverflowError) as error:
                raise EncodeError(f"label {name}: {error}") from None
        return tuple(made)


# -- one by one ------------------------------------------------------------------------------------------------------


def _need(data: bytes, name: str) -> None:
    facts = DECODERS[name]
    if (facts.sizes and len(data) not in facts.sizes) or len(data) < facts.least or len(data) % facts.unit:
        raise EncodeError(f"decoder {name} does not take {len(data)} bytes")


def _text_number(data: bytes, name: str) -> int:
    if not data.isdigit() or len(data) > 20:
        raise EncodeError(f"decoder {name} takes a number as text, which uint makes, not {data[:20]!r}")
    return int(data)


def _uint(self: Decoders, data: bytes, _: Decoder) -> bytes:
    _need(data, "uint")
    return b"%d" % int.from_bytes(data, sys.byteorder)


def _int(self: Decoders, data: bytes, _: Decoder) -> bytes:
    _need(data, "int")
    return b"%d" % int.from_bytes(data, sys.byteorder, signed=True)


def _hex(self: Decoders, data: bytes, _: Decoder) -> bytes:
    return data.hex().encode()


def _string(self: Decoders, data: bytes, _: Decoder) -> bytes:
    return data.partition(b"\0")[0]


def _inet_ip(self: Decoders, data: bytes, _: Decoder) -> bytes:
    _need(data, "inet_ip")
    address = ipaddress.ip_address(data)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address).encode()


def _dname(self: Decoders, data: bytes, _: Decoder) -> bytes:
    """``\\x07example\\x03com`` is ``example.com``; what is not a name stays as it is."""
    if not data:
        return b"."
    parts, at = [], 0
    while at < len(data):
        end = at + 1 + data[at]
        if end > len(data):
            return data
        parts.append(data[at + 1 : end])
        at = end
    return b".".join(parts)


def _regexp(self: Decoders, data: bytes, decoder: Decoder) -> bytes:
    """What matches passes; of a pattern with a group that alone, so that many texts become one."""
    text = data.decode("utf-8", "replace")
    for pattern in decoder.regexps:
        match = pattern.search(text)
        if match is not None:
            return (match[1] or "").encode() if pattern.groups else data
    raise Skipped


def _static_map(self: Decoders, data: bytes, decoder: Decoder) -> bytes:
    text = data.decode("utf-8", "replace")
    found = (decoder.static_map or {}).get(text)
    if found is None:
        return data if decoder.allow_unknown else DECODERS["static_map"].unknown.format(text).encode()
    return found.encode()


def _errno(self: Decoders, data: bytes, _: Decoder) -> bytes:
    number = _text_number(data, "errno")
    name = {errno.EOPNOTSUPP: "EOPNOTSUPP", errno.EDEADLK: "EDEADLK"}.get(number) or errno.errorcode.get(number)
    return name.encode() if name else DECODERS["errno"].unknown.format(number).encode()


def _syscall(self: Decoders, data: bytes, _: Decoder) -> bytes:
    number = _text_number(data, "syscall")
    name = syscall_names().get(number)
    return name.encode() if name else DECODERS["syscall"].unknown.format(number).encode()


def _cgroup(self: Decoders, data: bytes, _: Decoder) -> bytes:
    number = _text_number(data, "cgroup")
    path = self.names.cgroups.path(number)
    return path.encode("utf-8", "surrogateescape") if path is not None else self.unknown("cgroup", number)


def _symbol(self: Decoders, address: int) -> str | None:
    found = self.names.symbols.at(address)
    return found[0] if found is not None else None


def _ksym(self: Decoders, data: bytes, _: Decoder) -> bytes:
    _need(data, "ksym")
    address = int.from_bytes(data[:8], sys.byteorder)
    name = _symbol(self, address)
    return name.encode() if name is not None else self.unknown("ksym", f"{address:#x}")


def _kstack(self: Decoders, data: bytes, _: Decoder) -> bytes:
    _need(data, "kstack")
    frames = []
    for (address,) in struct.iter_unpack("=Q", data):
        if not address:
            break
        name = _symbol(self, address)
        frames.append(name.encode() if name is not None else self.unknown("kstack"))
    return b"\n".join(frames)


def _lbr(self: Decoders, data: bytes, _: Decoder) -> bytes:
    """struct perf_branch_entry: u64 from, u64 to, u64 of flags."""
    _need(data, "lbr")
    lines = []
    for start, end, _flags in struct.iter_unpack("=QQQ", data):
        names = [_symbol(self, address) or DECODERS["lbr"].unknown for address in (start, end)]
        lines.append(f"0x{start:08x} -> 0x{end:08x} | {names[0]} -> {names[1]}")
    return "\n".join(lines).encode() or b"<empty>"


def _ifname(self: Decoders, data: bytes, _: Decoder) -> bytes:
    _need(data, "ifname")
    index = int.from_bytes(data[:4], sys.byteorder)
    try:
        return socket.if_indextoname(index).encode()
    except (OSError, OverflowError):
        return self.unknown("ifname", index)


def _majorminor(self: Decoders, data: bytes, _: Decoder) -> bytes:
    """What the kernel's new_encode_dev() makes of a dev_t: 12 bits of major in the middle of 20 of minor."""
    _need(data, "majorminor")
    number = int.from_bytes(data[:4], sys.byteorder)
    major, minor = number >> 8 & 0xFFF, number & 0xFF | number >> 12 & 0xFFF00
    name = self.names.devices.get((major, minor))
    return name.encode() if name is not None else self.unknown("majorminor", major, minor)


def _pci(kind: str, key: Callable[[int], str], unknown: Callable[[PciIds, int], tuple[str, str]]) -> Function:
    def decode(self: Decoders, data: bytes, _: Decoder) -> bytes:
        number, ids = _text_number(data, kind), self.names.pci
        name = ids.get(key(number))
        if not ids.found:
            return NO_PCI_IDS.encode()
        if name is not None:
            return name.encode()
        which, what = unknown(ids, number)
        return DECODERS[which].unknown.format(*what.split()).encode()

    return decode


def _no_subclass(ids: PciIds, number: int) -> tuple[str, str]:
    if ids.get(f"C {number >> 8:02x}") is None:
        return "pci_class", f"{number >> 8:02x}"
    return "pci_subclass", f"{number & 0xFF:02x} {number >> 8:02x}"


Function = Callable[[Decoders, bytes, Decoder], bytes]
_FUNCTIONS: dict[str, Function] = {
    "cgroup": _cgroup,
    "dname": _dname,
    "errno": _errno,
    "hex": _hex,
    "ifname": _ifname,
    "inet_ip": _inet_ip,
    "int": _int,
    "kstack": _kstack,
    "ksym": _ksym,
    "lbr": _lbr,
    "majorminor": _majorminor,
    "pci_class": _pci("pci_class", lambda n: f"C {n:02x}", lambda _, n: ("pci_class", f"{n:02x}")),
    "pci_subclass": _pci("pci_subclass", lambda n: f"C {n >> 8:02x}{n & 0xFF:02x}", _no_subclass),
    "pci_vendor": _pci("pci_vendor", lambda n: f"{n:04x}", lambda _, n: ("pci_vendor", f"{n:04x}")),
    "pci_device": _pci("pci_device", lambda n: f"{n:08x}", lambda _, n: ("pci_device", f"{n:08x}")),
    "regexp": _regexp,
    "static_map": _static_map,
    "string": _string,
    "syscall": _syscall,
    "uint": _uint,
}
