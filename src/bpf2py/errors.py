"""The typed exceptions of bpf2py.

Every exception is a `BpfError` and also the builtin a Python reader expects (`KeyNotFound` is a `KeyError`, `MapFull` an
`OSError`, ...). The ones that come from a bpf() command carry its `errno` and its `command`; the message always
starts with the object concerned and reads like a path: ``map counts: update: map is full (max_entries=1003) (E2BIG)``.
"""

from __future__ import annotations

import errno as _errno

__all__ = [
    "AttachError",
    "BpfError",
    "BpfOSError",
    "BtfError",
    "ClosedError",
    "CompileError",
    "CompilerNotFound",
    "EncodeError",
    "IndexOutOfRange",
    "IterationAborted",
    "KeyExists",
    "KeyNotFound",
    "MapCreateError",
    "MapFull",
    "MapIncompatible",
    "NotSupported",
    "ObjectError",
    "PermissionDenied",
    "ProgramFault",
    "QueueEmpty",
    "RelocationError",
    "SourceError",
    "VerifierError",
    "errno_name",
]

ENOTSUPP = 524  # kernel-internal errno that leaks to user space: include/linux/errno.h


def errno_name(number: int) -> str:
    """The symbolic name of an errno, including the kernel-internal ones bpf() leaks.

    >>> errno_name(22), errno_name(524)
    ('EINVAL', 'ENOTSUPP')
    """
    if number == ENOTSUPP:
        return "ENOTSUPP"
    if number == _errno.EOPNOTSUPP:
        return "EOPNOTSUPP"  # Linux has ENOTSUP as another name of it
    return _errno.errorcode.get(number, f"errno {number}")


class BpfError(Exception):
    """Base of every exception bpf2py raises.

    Attributes:
        errno: what the kernel (or the engine) answered, or None when no system call was involved.
        command: the bpf() command or system call that failed, such as ``"BPF_MAP_CREATE"``, or None.
    """

    errno: int | None = None
    command: str | None = None

    def __init__(self, message: str, *, errno: int | None = None, command: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.errno = errno
        self.command = command

    def __str__(self) -> str:
        # KeyError would show repr(message), OSError its own format.
        if self.errno is None:
            return self.message
        return f"{self.message} ({errno_name(self.errno)})"

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.args, self.__dict__))


def _rebuild(cls: type[BpfError], args: tuple[object, ...], state: dict[str, object]) -> BpfError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class BpfOSError(BpfError, OSError):
    """A bpf() command or an attach system call failed in a way no other class describes."""


class PermissionDenied(BpfOSError, PermissionError):
    """The process lacks a right. The message names what is missing and how to fix it."""


class MapCreateError(BpfOSError, ValueError):
    """The kernel refused to create a map; the message says which field of the spec is wrong where that is known."""


class MapFull(BpfOSError):
    """No room for a new key: the map already holds `max_entries` elements (E2BIG)."""


class MapIncompatible(BpfError, ValueError):
    """A pinned or reused map differs from its spec; the message lists every difference."""


class AttachError(BpfOSError):
    """A program could not be attached to its hook."""


class KeyNotFound(BpfError, KeyError):
    """The key is not in the map (ENOENT)."""


class KeyExists(BpfError, KeyError):
    """An update with BPF_NOEXIST met a key that is there already (EEXIST)."""


class IndexOutOfRange(BpfError, IndexError):
    """An array index is not below `max_entries`."""


class QueueEmpty(BpfError, IndexError):
    """pop() or peek() on a QUEUE or STACK map without elements (ENOENT)."""


class IterationAborted(BpfError, RuntimeError):
    """Programs changed the map so fast that an iteration used up its budget of restarts."""


class ClosedError(BpfError, ValueError):
    """The object, map, program or link was closed already."""


class EncodeError(BpfError, ValueError):
    """A Python value does not fit the BTF type it is to be stored as."""


class NotSupported(BpfError, NotImplementedError):
    """The kernel (or the engine) lacks a feature.

    Attributes:
        feature: the name of the feature, such as ``"uprobe.multi"``.
        since: the first kernel version that has it, such as ``"6.6"``, or None when unknown.
    """

    def __init__(
        self,
        message: str,
        *,
        feature: str = "",
        since: str | None = None,
        errno: int | None = None,
        command: str | None = None,
    ) -> None:
        super().__init__(message, errno=errno, command=command)
        self.feature = feature
        self.since = since


class ObjectError(BpfError, ValueError):
    """A file is not a usable BPF object.

    Attributes:
        section: the ELF section concerned, or None.
        offset: byte offset of the fault in that section (in the file where `section` is None), or None.
    """

    def __init__(self, message: str, *, section: str | None = None, offset: int | None = None) -> None:
        super().__init__(message)
        self.section = section
        self.offset = offset

    def __str__(self) -> str:
        where = [f"section {self.section}"] if self.section is not None else []
        if self.offset is not None:
            where.append(f"offset {self.offset:#x}")
        return f"{self.message} ({', '.join(where)})" if where else self.message


class BtfError(ObjectError):
    """BTF data is damaged, or a type is not there or not usable for what was asked."""


class RelocationError(ObjectError):
    """A relocation cannot be resolved: map, global data, call, extern or CO-RE."""


class CompileError(BpfError, ValueError):
    """The compiler refused the source; str() is what the compiler wrote.

    Attributes:
        stderr: the compiler's own messages, unchanged.
        argv: the command that was run.
        returncode: its exit status.
    """

    def __init__(self, message: str, *, stderr: str = "", argv: tuple[str, ...] = (), returncode: int = 1) -> None:
        super().__init__(message)
        self.stderr = stderr
        self.argv = argv
        self.returncode = returncode


class SourceError(CompileError, SyntaxError):
    """A program written in Python (`bpf2py.lang`) was refused: a SyntaxError, so that a traceback shows the place.

    Attributes:
        filename, lineno, offset, end_lineno, end_offset, text: as every SyntaxError has them; columns count from 1.
    """

    def __init__(
        self,
        message: str,
        *,
        filename: str = "",
        lineno: int = 1,
        offset: int = 1,
        end_lineno: int = 1,
        end_offset: int = 2,
        text: str = "",
    ) -> None:
        end = end_offset if end_lineno == lineno else len(text) + 1
        caret = " " * (offset - 1) + "^" * max(end - offset, 1)
        shown = f"{filename}:{lineno}:{offset}: {message}\n    {text}\n    {caret}"
        super().__init__(shown, stderr=shown)
        self.msg = message
        self.filename = filename
        self.lineno = lineno
        self.offset = offset
        self.end_lineno = end_lineno
        self.end_offset = end_offset
        self.text = text

    def __reduce__(self) -> tuple[object, ...]:
        names = ("filename", "lineno", "offset", "end_lineno", "end_offset", "text")
        return (_rebuild_source_error, (self.msg, {name: getattr(self, name) for name in names}))


def _rebuild_source_error(message: str, place: dict[str, str | int]) -> SourceError:
    return SourceError(message, **place)  # type: ignore[arg-type]


class CompilerNotFound(CompileError):
    """Neither clang (14 or newer) nor the ziglang wheel is there."""


class VerifierError(BpfError, ValueError):
    """The kernel's verifier rejected a program.

    Attributes:
        log: the whole verifier log.
        summary: the lines that say what is wrong.
        source_line: ``file:line: text`` of the rejected instruction, or None without line information.
        hint: what usually fixes this kind of rejection, or None when unsure.
    """

    def __init__(
        self,
        message: str,
        *,
        log: str = "",
        summary: str = "",
        source_line: str | None = None,
        hint: str | None = None,
        errno: int | None = None,
        command: str | None = "BPF_PROG_LOAD",
    ) -> None:
        super().__init__(message, errno=errno, command=command)
        self.log = log
        self.summary = summary
        self.source_line = source_line
        self.hint = hint


class GuestError(BpfError, RuntimeError):
    """A virtual machine could not be started, died, or could not do what it was asked (`bpf2py.testing.Guest`)."""


class ProgramFault(BpfError, RuntimeError):
    """The engine stopped a program: a bad address, no end in sight, a stack that overflowed.

    Attributes:
        program: its name.
        kind: ``"memory"``, ``"fuel"``, ``"stack"``, ``"function"``, ``"map"`` or ``"helper"``.
        instruction: the instruction's index.
        source_line: ``file:line: text`` of it, or None without line information.
        address: the address concerned, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        program: str = "",
        kind: str = "memory",
        instruction: int = 0,
        source_line: str | None = None,
        address: int | None = None,
    ) -> None:
        super().__init__(message)
        self.program = program
        self.kind = kind
        self.instruction = instruction
        self.source_line = source_line
        self.address = address
