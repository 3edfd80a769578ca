"""Text that came from a file or another process, made safe for a terminal."""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    """The text with what a terminal would obey shown as escapes; characters in `keep` stay as they are.

    >>> printable("a\\x1b[2Jb\\n")
    'a\\\\x1b[2Jb\\\\x0a'
    """
    return "".join(c if c.isprintable() or c in keep else _escape(c) for c in text)


def _escape(character: str) -> str:
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:
        number &= 0xFF  # a byte that is not UTF-8 (surrogateescape)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
