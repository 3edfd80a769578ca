"""Helpers that format and read text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bpf2py.engine.helpers.memory import _kernel, _user
from bpf2py.uapi.errno import EINVAL, ENOSPC, EOVERFLOW, ERANGE

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine


# What bpf_bprintf_prepare() takes of the kernel's formats: no precision, no #, no sizes but l and ll; after text and addresses
# no letter or digit.
_SPEC = re.compile(
    rb"%%|%(?P<flags>[-+ 0]*)(?P<width>[1-9]\d*)?"
    rb"(?P<kind>(?:s|p[ku]s|p)(?![A-Za-z0-9\x80-\xff])|p(?:[KBsSx]|[iI][46])|(?P<size>ll|l)?[diuxX]|c)"
)
_ALNUM = re.compile(rb"[A-Za-z0-9]*")
_BITS = {b"ll": 64, b"l": 64, None: 32}
MAX_BIN_ARGS, MAX_BUFFER = 512, 1024  # MAX_BPRINTF_BIN_ARGS, MAX_BPRINTF_BUF
MAX_WIDTH = (1 << 23) - 1  # FIELD_WIDTH_MAX of lib/vsprintf.c, whose numbers have 32 bits
SEQ_BUFFER = 1 << 15  # of an iterator: PAGE_SIZE << 3


class Refused(Exception):
    """The kernel refuses a format, with an errno."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno = errno


class Text:
    """Text as snprintf() makes it for a buffer: what fits it in front of a NUL, and how long it would be."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.most = max(size - 1, 0)
        self.length = 0
        self.kept = bytearray()

    def add(self, part: bytes) -> None:
        """Append."""
        self.length += len(part)
        self.kept += part[: max(0, self.most - len(self.kept))]

    def fill(self, byte: bytes, count: int) -> None:
        """Append a byte so many times."""
        self.length += max(count, 0)
        self.kept += byte * max(0, min(count, self.most - len(self.kept)))


def _string(engine: Machine, address: int, most: int = 4096, user: bool = False) -> bytes | None:
    """The text at an address, without its NUL, `most` bytes of it; None where the address is bad."""
    reader = _user if user else _kernel
    found = bytearray()
    while len(found) < most:
        step = min(most - len(found), 256 - (address + len(found) & 255))
        part = reader(engine, address + len(found), step)
        if part is None:
            return None
        end = part.find(b"\0")
        if end >= 0:
            return bytes(found + part[:end])
        found += part
    return bytes(found)


def render(engine: Machine, form: bytes, arguments: list[int], size: int) -> Text:
    """What bpf_bprintf_prepare() and vsnprintf() make of a format. Raises Refused."""
    utf8 = engine.version >= (6, 18, 0)
    if any(byte == 0x7F or (byte > 0x7F and not utf8) or (byte < 0x20 and byte not in b"\t\n\r\v\f") for byte in form):
        raise Refused(EINVAL)
    out = Text(size)
    at = used = 0
    room = MAX_BIN_ARGS if arguments else 0  # for copies of the arguments
    parts: list[tuple[bytes, re.Match[bytes] | None, bytes]] = []
    while True:
        percent = form.find(b"%", at)
        if percent < 0:
            break
        before = form[at:percent]
        match = _SPEC.match(form, percent)
        if match is None:
            raise Refused(EINVAL)
        at = match.end()
        if (match["kind"] or b"")[:1] == b"p":
            at = _ALNUM.match(form, at).end()  # type: ignore[union-attr]  # matches nothing, too
        if match[0] == b"%%":
            parts.append((before + b"%", None, b""))
            continue
        if used >= len(arguments):
            raise Refused(EINVAL)
        text, room = _argument(engine, match, arguments[used], room)
        parts.append((before, match, text))
        used += 1
    for before, match, text in parts:
        out.add(before)
        if match is not None:
            _pad(out, match, text)
    out.add(form[at:])
    return out


def _argument(engine: Machine, match: re.Match[bytes], value: int, room: int) -> tuple[bytes, int]:
    """(an argument as text, the room that is left for copies of others). Raises Refused (ENOSPC)."""
    kind = match["kind"]
    if kind in (b"s", b"pks", b"pus"):
        if not room:
            raise Refused(ENOSPC)
        found = _string(engine, value, room - 1, kind == b"pus")
        return found or b"", room - (len(found) + 1 if found is not None else 1)
    if kind == b"c":
        if not room:
            raise Refused(ENOSPC)
        return bytes([value & 0xFF]), room - 1
    if kind[:2] in (b"pi", b"pI"):
        if room < (4 if kind[-1:] == b"4" else 16):
            raise Refused(ENOSPC)
        text = _address(engine, kind, value)
        return text, max(room - len(text) - 1, 0)
    size = 8 if kind[:1] == b"p" or match["size"] else 4
    room = room // 4 * 4
    if room < size:
        raise Refused(ENOSPC)
    if kind[:1] == b"p":
        return b"0x%x" % value if kind[1:] in (b"s", b"S", b"B") else b"%016x" % value, room - size
    bits = _BITS[match["size"]]
    value &= (1 << bits) - 1
    letter = kind[-1:]
    if letter in b"di":
        return b"%d" % ((value ^ 1 << bits - 1) - (1 << bits - 1)), room - size
    return b"%d" % value if letter == b"u" else b"%x" % value if letter == b"x" else b"%X" % value, room - size


def _pad(out: Text, match: re.Match[bytes], text: bytes) -> None:
    """Add an argument's text at its width."""
    kind, flags = match["kind"], match["flags"] or b""
    if kind[:2] in (b"pi", b"pI", b"pB", b"pk", b"pu"):
        # These were made before, and are copied without looking at the width, while there is room.
        if out.length < out.size:
            out.add(text)
        return
    width = min((int((match["width"] or b"0")[:4096]) & 0xFFFFFFFF ^ 1 << 31) - (1 << 31), MAX_WIDTH)
    if kind[:1] == b"p" and kind[1:2] not in (b"s", b"S") and width > 0:
        text = text.lstrip(b"0") or b"0"  # all digits are there only where no width is given
    sign = b""
    if kind[-1:] in b"di":
        sign = b"-" if text[:1] == b"-" else b"+" if b"+" in flags else b" " if b" " in flags else b""
        text = text.lstrip(b"-")
    fill = width - len(sign) - len(text)
    zeros = b"0" in flags and b"-" not in flags and kind[-1:] in (b"d", b"i", b"u", b"x", b"X", b"K", b"p")
    if not zeros and b"-" not in flags:
        out.fill(b" ", fill)
    out.add(sign)
    if zeros:
        out.fill(b"0", fill)
    out.add(text)
    if b"-" in flags:
        out.fill(b" ", fill)


def _address(engine: Machine, kind: bytes, value: int) -> bytes:
    if kind in (b"pi4", b"pI4"):
        raw = _kernel(engine, value, 4) or bytes(4)
        return b".".join(b"%03d" % b if kind == b"pi4" else b"%d" % b for b in raw)
    raw = _kernel(engine, value, 16) or bytes(16)
    groups = [raw[i : i + 2].hex().encode() for i in range(0, 16, 2)]
    return b"".join(groups) if kind == b"pi6" else b":".join(groups)


def _format(engine: Machine, address: int, size: int) -> bytes:
    """The format in a buffer of so many bytes. Raises Refused without a NUL in it."""
    form, nul, _ = engine.read(address, engine.length(size)).partition(b"\0")
    if not nul:
        raise Refused(EINVAL)
    return form


def _values(engine: Machine, data: int, size: int) -> list[int]:
    """Arguments in memory. Raises Refused."""
    size &= 0xFFFFFFFF
    if size % 8 or size > 96 or (size and not data):
        raise Refused(EINVAL)
    raw = engine.read(data, size) if size else b""
    return [int.from_bytes(raw[i : i + 8], "little") for i in range(0, size, 8)]


def trace_printk(engine: Machine, form: int, size: int, a: int, b: int, c: int, *_: int) -> int:
    """A line for `Engine.trace`; the number of characters."""
    try:
        return _trace(engine, _format(engine, form, size), [a, b, c])
    except Refused as refused:
        return -refused.errno


def trace_vprintk(engine: Machine, form: int, size: int, data: int, data_size: int, *_: int) -> int:
    """The same with its arguments in memory (Linux 5.16)."""
    try:
        values = _values(engine, data, data_size)
        return _trace(engine, _format(engine, form, size), values)
    except Refused as refused:
        return -refused.errno


def _trace(engine: Machine, form: bytes, arguments: list[int]) -> int:
    text = render(engine, form, arguments, MAX_BUFFER)
    engine.trace.add(text.kept.decode("utf-8", "replace").rstrip("\n"))
    return text.length


def snprintf(engine: Machine, target: int, size: int, form: int, data: int, data_size: int, *_: int) -> int:
    """The length the text has, with its NUL; as much of it as fits is stored (Linux 5.13)."""
    size = engine.length(size)
    try:
        values = _values(engine, data, data_size)
        text = render(engine, _string(engine, form) or b"", values, size)
    except Refused as refused:
        return -refused.errno
    if size:
        engine.write(target, text.kept + b"\0")
    return text.length + 1


def seq_printf(engine: Machine, _seq: int, form: int, size: int, data: int, data_size: int, *_: int) -> int:
    """Add text to what an iterator program writes (Linux 5.7)."""
    try:
        values = _values(engine, data, data_size)
        text = render(engine, _format(engine, form, size), values, SEQ_BUFFER)
    except Refused as refused:
        return -refused.errno
    return _seq_add(engine, text.kept, text.length)


def _seq_add(engine: Machine, data: bytes | bytearray, length: int) -> int:
    """What does not fit the buffer is left out, as the kernel's, which then starts a new one."""
    output = engine.current.output
    if len(output) + length >= SEQ_BUFFER:
        return -EOVERFLOW
    output.extend(data)
    return 0


def seq_write(engine: Machine, _seq: int, data: int, size: int, *_: int) -> int:
    """Add bytes to what an iterator program writes (Linux 5.7)."""
    found = engine.read(data, engine.length(size))
    return _seq_add(engine, found, len(found))


_NUMBER = {
    0: re.compile(rb"\s*(?P<sign>-?)(?P<digits>0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)"),
    8: re.compile(rb"\s*(?P<sign>-?)(?P<digits>[0-7]+)"),
    10: re.compile(rb"\s*(?P<sign>-?)(?P<digits>[0-9]+)"),
    16: re.compile(rb"\s*(?P<sign>-?)(?:0[xX]|(?!0[xX]))(?P<digits>[0-9a-fA-F]+)"),
}


def _parse(engine: Machine, text: int, size: int, flags: int, result: int) -> tuple[int, bool, int] | int:
    if engine.version >= (6, 12, 0):
        engine.write(result, bytes(8))
    if not text or not size:
        return -EINVAL
    if flags & ~31 or flags & 31 not in _NUMBER:
        return -EINVAL
    match = _NUMBER[flags & 31].match(engine.read(text, engine.length(size)).split(b"\0", 1)[0])
    if match is None:
        return -EINVAL
    digits = match["digits"]
    base = flags & 31 or (16 if digits[:2] in (b"0x", b"0X") else 8 if digits[:1] == b"0" and len(digits) > 1 else 10)
    return int(digits, base), bool(match["sign"]), match.end()


def strtol(engine: Machine, text: int, size: int, flags: int, result: int, *_: int) -> int:
    """The characters that made up a signed number, which is stored (Linux 5.2)."""
    found = _parse(engine, text, size, flags, result)
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
    found = _parse(engine, text, size, flags, result)
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
    """Less than, equal to or greater than 0 (Linux 5.17): -1 and 1 as on x86-64; on arm64 kernels give others of that sign."""
    size = engine.length(size)
    left, right = engine.read(a, size), (_string(engine, b) or b"")[:size] + b"\0"
    for i in range(size):
        one, other = left[i], right[i] if i < len(right) else 0
        if one != other:
            return -1 if one < other else 1
        if not one:
            break
    return 0
