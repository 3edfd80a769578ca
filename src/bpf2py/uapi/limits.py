"""The limit of open files: its errors say so, also where it hits an import or another part of Python."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import wraps

from bpf2py._typing import ParamSpec, TypeVar
from bpf2py.errors import BpfError, BpfOSError

P = ParamSpec("P")
R = TypeVar("R")


def too_many_files(number: int) -> str | None:
    """What EMFILE and ENFILE mean here; None for other errnos."""
    if number == errno.EMFILE:
        limit = os.sysconf("SC_OPEN_MAX")
        return (
            f"the process has as many files open as it may (RLIMIT_NOFILE is {limit}): close some, or raise the limit "
            "(ulimit -n, resource.setrlimit, LimitNOFILE= of systemd)"
        )
    if number == errno.ENFILE:
        return "the machine has as many files open as it may (sysctl fs.file-max)"
    return None


def names_limits(function: Callable[P, R]) -> Callable[P, R]:
    """Turn the OSError of what a function imports or opens on the way into a BpfOSError, where it is at that limit."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except OSError as error:
            text = too_many_files(error.errno or 0)
            if text is None or isinstance(error, BpfError):
                raise
            where = f"{error.filename}: " if error.filename is not None else ""
            raise BpfOSError(f"{where}{text}", errno=error.errno, command="open") from error

    return call
