"""Programs and functions, for Python: what decorators make of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from bpf2py.backends import new_engine
from bpf2py.loading import load

if TYPE_CHECKING:
    from bpf2py.lang.memory import Ptr
    from bpf2py.seam.info import TestRunResult

__all__ = [
    "Context",
    "DeviceContext",
    "Hook",
    "IterContext",
    "KprobeContext",
    "NetfilterContext",
    "PerfEventContext",
    "ProgramDef",
    "RawTracepointContext",
    "ReuseportContext",
    "SkLookupContext",
    "SkMsgContext",
    "SkbContext",
    "SockAddrContext",
    "SockContext",
    "SockOpsContext",
    "SockoptContext",
    "SysctlContext",
    "TracepointContext",
    "XdpContext",
    "c_function",
    "global_function",
    "inline",
    "section",
    "subprogram",
]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class ProgramDef:
    """A program as its module has it: a description, which `bpf2py.load` makes a program of.

    Attributes:
        name: the function's name.
        section: the ELF section, which says where the program is attached.
        path: the file it stands in.
    """

    def __init__(self, function: Callable[..., Any], section: str) -> None:
        self.name = function.__name__
        self.section = section
        self.path = function.__code__.co_filename
        self.__doc__ = function.__doc__

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Explains itself: the kernel calls programs, Python does not."""
        raise TypeError(
            f"{self.name} is an eBPF program for {self.section!r}, which the kernel calls: load it by "
            f"bpf2py.load({os.path.basename(self.path)!r}), or try it by {self.name}.run(...)"
        )

    def run(self, *arguments: Any, engine: Any = None, **options: Any) -> TestRunResult:
        """Run the program once on an engine, with fresh maps.

        Args:
            arguments: as for `Program.run`.
            engine: a `bpf2py.engine.Engine`; default: one of its own.
            options: as for `Program.run`.
        """
        with load(self.path, engine if engine is not None else new_engine()) as obj:
            return obj.programs[self.name].run(*arguments, **options)

    def __repr__(self) -> str:
        return f"<ProgramDef {self.name} {self.section!r}>"


class Hook:
    """A decorator for programs of one kind, with or without a target: ``@xdp``, ``@kprobe("do_unlinkat")``."""

    def __init__(self, section: str) -> None:
        self._section = section

    @overload
    def __call__(self, program: Callable[..., Any], /) -> ProgramDef: ...
    @overload
    def __call__(self, target: str = ..., *, autoload: bool = ...) -> Callable[[Callable[..., Any]], ProgramDef]: ...
    def __call__(self, target: Any = "", *, autoload: bool = True) -> Any:
        """Mark a function as a program. `autoload`: False leaves it out when the object is loaded."""
        if callable(target):
            return ProgramDef(target, self._section)
        section = f"{self._section}/{target}" if target else self._section
        return lambda function: ProgramDef(function, section if autoload else f"?{section}")


def section(name: str, *, autoload: bool = True) -> Callable[[Callable[..., Any]], ProgramDef]:
    """A program in an ELF section of any name."""
    return lambda function: ProgramDef(function, name if autoload else f"?{name}")


def inline(function: F) -> F:
    """A function that is compiled into those that call it: what a function without a decorator is, too."""
    return function


def subprogram(function: F) -> F:
    """A function that programs call (a BPF-to-BPF call, Linux 4.16)."""
    return function


def global_function(function: F) -> F:
    """A function that the verifier checks by itself, once (Linux 5.6)."""
    return function


def c_function(header: str) -> Callable[[F], F]:
    """A function that a C header defines, ``static`` and under this name; what stands in its body here is not read.

    Args:
        header: looked for beside the file, then where `bpf2py.compile` looks for headers.
    """
    return lambda function: function


class Context:
    """What a program is given; its attributes are the fields of the kernel's struct."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

        def __setattr__(self, name: str, value: Any) -> None: ...

        def packet(self, kind: type[T], offset: int = 0) -> Ptr[T] | None:
            """What lies at an offset of the packet, or None where the packet ends before (XDP, tc and socket programs)."""


class XdpContext(Context):
    """``struct xdp_md``."""


class SkbContext(Context):
    """``struct __sk_buff``."""


class TracepointContext(Context):
    """The record of a tracepoint."""


class KprobeContext(Context):
    """``struct pt_regs``."""


class RawTracepointContext(Context):
    """``struct bpf_raw_tracepoint_args``."""


class IterContext(Context):
    """``struct bpf_iter__...`` of the iterator."""


class SockOpsContext(Context):
    """``struct bpf_sock_ops``."""


class SkMsgContext(Context):
    """``struct sk_msg_md``."""


class SockContext(Context):
    """``struct bpf_sock``."""


class SockAddrContext(Context):
    """``struct bpf_sock_addr``."""


class SysctlContext(Context):
    """``struct bpf_sysctl``."""


class SockoptContext(Context):
    """``struct bpf_sockopt``."""


class DeviceContext(Context):
    """``struct bpf_cgroup_dev_ctx``."""


class SkLookupContext(Context):
    """``struct bpf_sk_lookup``."""


class ReuseportContext(Context):
    """``struct sk_reuseport_md``."""


class NetfilterContext(Context):
    """``struct bpf_nf_ctx``."""


class PerfEventContext(Context):
    """``struct bpf_perf_event_data``."""
