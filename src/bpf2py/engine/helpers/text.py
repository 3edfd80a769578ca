"""Helpers that format and read text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bpf2py.engine.helpers.memory import _kernel, _user

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine

EINVAL, ERANGE, E2BIG, EFAULT, EBUSY = 22, 34, 7, 14, 16
# What bpf_bprintf_prepare() takes of the kernel's formats: no precision, no #, no sizes but l and ll.
_SPEC = re.compile(
    rb"%%|%(?P<flags>[-+ 0]*)(?P<width>[1-9]\d*)?(?P<kind>p(?:ks|us|[KBsSx]|[iI][46])?|(?P<size>ll|l)?[diuxX]|c|s)"
)
_BITS = {b"ll": 64, b"l": 64, None: 32}


class BadFormat(Exception):
    """The kernel answers -EINVAL."""


def _string(engine: Machine, address: int, user: bool = False) -> bytes:
    reader = _user if user else _kernel
    found = bytearray()
    while len(found) < 4096:
        byte = reader(engine, address + len(found), 1)
        if byte is None:
            return b"(efault)" if not found else bytes(found)
        if byte == b"\0":
            break
        found += byte
    return bytes(found)


def render(engine: Machine, form: bytes, arguments: list[int]) -> bytes:
    """What bpf_bprintf_prepare() and vsnprintf() make of a format. Raises BadFormat."""
    out = bytearray()
    at = used = 0
    for position, byte in enumerate(form):
        if byte >= 0x80 or (byte < 0x20 and byte not in b"\t\n\r\v\f"):
            raise BadFormat(position)
    while True:
        percent = form.find(b"%", at)
        if percent < 0:
            return bytes(out + form[at:])
        out += form[at:percent]
        match = _SPEC.match(form, percent)
        if match is None:
            raise BadFormat(percent)
        at = match.end()
        if match[0] == b"%%":
            out += b"%"
            continue
        if used >= len(arguments):
            raise BadFormat(percent)
        out += _one(engine, match, arguments[used])
        used += 1


def _one(engine: Machine, match: re.Match[bytes], value: int) -> bytes:
    kind, flags = match["kind"], match["flags"] or b""
    width = int(match["width"] or 0)
    if kind in (b"s", b"pks", b"pus"):
        text = _string(engine, value, kind == b"pus")
    elif kind[:1] == b"p":
        text = _pointer(engine, kind, value)
    elif kind[-1:] == b"c":
        text = bytes([value & 0xFF])
    else:
        bits = _BITS[match["size"]]
        value &= (1 << bits) - 1
        sign = b""
        if kind[-1:] in b"di":
            value = (value ^ 1 << bits - 1) - (1 << bits - 1)
            sign = b"-" if value < 0 else b"+" if b"+" in flags else b" " if b" " in flags else b""
            text = b"%d" % abs(value)
        else:
            text = b"%d" % value if kind[-1:] == b"u" else b"%x" % value if kind[-1:] == b"x" else b"%X" % value
        if b"0" in flags and b"-" not in flags:
            text = text.rjust(width - len(sign), b"0")
        text = sign + text
    return text.ljust(width) if b"-" in flags else text.rjust(width)


def _pointer(engine: Machine, kind: bytes, value: int) -> bytes:
    if kind in (b"pi4", b"pI4"):
        raw = _kernel(engine, value, 4) or bytes(4)
        return b".".join(b"%03d" % b if kind == b"pi4" else b"%d" % b for b in raw)
    if kind in (b"pi6", b"pI6"):
        raw = _kernel(engine, value, 16) or bytes(16)
        groups = [raw[i : i + 2].hex().encode() for i in range(0, 16, 2)]
        return b"".join(groups) if kind == b"pi6" else b":".join(groups)
    return b"%016x" % value


def _format(engine: Machine, address: int, size: int | None = None) -> bytes:
    if size is None:
        return _string(engine, address)
    return engine.read(address, size).split(b"\0", 1)[0]


def trace_printk(engine: Machine, form: int, size: int, a: int, b: int, c: int, *_: int) -> int:
    """A line for `Engine.trace`; the number of characters."""
    raw = engine.read(form, engine.length(size))
    if not raw or raw[-1]:
        return -EINVAL
    return _trace(engine, raw.split(b"\0", 1)[0], [a, b, c])


def trace_vprintk(engine: Machine, form: int, size: int, data: int, data_size: int, *_: int) -> int:
    """The same with its arguments in memory (Linux 5.16)."""
    if data_size & 7 or data_size > 96 or (data_size and not data):
        return -EINVAL
    return _trace(engine, _format(engine, form, engine.length(size)), _values(engine, data, data_size))


def _values(engine: Machine, data: int, size: int) -> list[int]:
    raw = engine.read(data, size) if size else b""
    return [int.from_bytes(raw[i : i + 8], "little") for i in range(0, size, 8)]


def _trace(engine: Machine, form: bytes, arguments: list[int]) -> int:
    try:
        text = render(engine, form, arguments)
    except BadFormat:
        return -EINVAL
    engine.trace.append(text.decode("utf-8", "replace").rstrip("\n"))
    return len(text)


def snprintf(engine: Machine, target: int, size: int, form: int, data: int, data_size: int, *_: int) -> int:
    """The length the text has, with its NUL; as much of it as fits is stored (Linux 5.13)."""
    size = engine.length(size)
    if data_size % 8 or data_size > 96 or (data_size and not data):
        return -EINVAL
    try:
        text = render(engine, _format(engine, form), _values(engine, data, data_size))
    except BadFormat:
        return -EINVAL
    if size:
        engine.write(target, text[: size - 1] + b"\0")
    return len(text) + 1


def seq_printf(engine: Machine, _seq: int, form: int, size: int, data: int, data_size: int, *_: int) -> int:
    """Add to what an iterator program writes (Linux 5.7)."""
    if data_size & 7 or data_size > 96 or (data_size and not data):
        return -EINVAL
    try:
        text = render(engine, _format(engine, form, engine.length(size)), _values(engine, data, data_size))
    except BadFormat:
        return -EINVAL
    engine.current.output.extend(text)
    return 0


def seq_write(engine: Machine, _seq: int, data: int, size: int, *_: int) -> int:
    """Add bytes to what an iterator program writes (Linux 5.7)."""
    engine.current.output.extend(engine.read(data, engine.length(size)))
    return 0


_NUMBER = {
    0: re.compile(rb"\s*(?P<sign>-?)(?P<digits>0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)"),
    8: re.compile(rb"\s*(?P<sign>-?)(?P<digits>[0-7]+)"),
    10: re.compile(rb"\s*(?P<sign>-?)(?P<digits>[0-9]+)"),
    16: re.compile(rb"\s*(?P<sign>-?)(?:0[xX]|(?!0[xX]))(?P<digits>[0-9a-fA-F]+)"),
}


def _parse(engine: Machine, text: int, size: int, flags: int) -> tuple[int, bool, int] | int:
    if not text or not size:
        return -EINVAL
    if flags & ~31 or flags & 31 not in _NUMBER:
        return -EINVAL
    match = _NUMBER[flags & 31].match(engine.read(text, size).split(b"\0", 1)[0])
    if match is None:
        return -EINVAL
    digits = match["digits"]
    base = flags & 31 or (16 if digits[:2] in (b"0x", b"0X") else 8 if digits[:1] == b"0" and len(digits) > 1 else 10)
    return int(digits, base), bool(match["sign"]), match.end()


def strtol(engine: Machine, text: int, size: int, flags: int, result: int, *_: int) -> int:
    """The characters that made up a signed number, which is stored (Linux 5.2)."""
    found = _parse(engine, text, size, flags)
    if isinstance(found, int):
        return found
    value, negative, length = found
    value = -value if negative else value
    if not -(1 << 63) <= value < 1 << 63:
        return -ERANGE
    engine.write(result, (value & (1 << 64) - 1).to_bytes(8, "little"))
    return length


def strtoul(engine: Machine, text: int, size: int, flags: int, result: int, *_: int) -> int:
    """The characters that made up an unsigned number, which is stored (Linux 5.2)."""
    found = _parse(engine, text, size, flags)
    if isinstance(found, int):
        return found
    value, negative, length = found
    if value >= 1 << 64:
        return -ERANGE
    if negative:
        return -EINVAL
    engine.write(result, value.to_bytes(8, "little"))
    return length


def strncmp(engine: Machine, a: int, size: int, b: int, *_: int) -> int:
    """Less than, equal to or greater than 0 (Linux 5.17)."""
    size = engine.length(size)
    left, right = engine.read(a, size), _string(engine, b)[:size] + b"\0"
    for i in range(size):
        one, other = left[i], right[i] if i < len(right) else 0
        if one != other:
            return -1 if one < other else 1
        if not one:
            break
    return 0
