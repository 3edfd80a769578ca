"""Hooks of the simulated machine: programs attached to them, and events that let those run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bpf2py._lazy import module
from bpf2py.engine.maps.cgroup_storage import attached, cgroup_number
from bpf2py.engine.programs.loaded import MANY, Attachment, LoadedProgram
from bpf2py.engine.programs.prog_test_run import run_program
from bpf2py.engine.refusals import no_pins
from bpf2py.errors import AttachError
from bpf2py.owned import Owned
from bpf2py.spec.program_spec import ProgramSpec
from bpf2py.uapi.program_types import AttachType
from bpf2py.uapi.program_types import ProgramType as P

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine
    from bpf2py.engine.programs import iterators
    from bpf2py.seam.protocol import LinkHandle
    from bpf2py.uapi import attach_options
else:
    attach_options = module("bpf2py.uapi.attach_options")
    iterators = module("bpf2py.engine.programs.iterators")

__all__ = ["EngineLink", "attach", "can_attach", "fire", "hook_name"]

# The same hook under other names.
_ALIASES = {
    "tp": "tracepoint",
    "raw_tp": "raw_tracepoint",
    "raw_tp.w": "raw_tracepoint.w",
    "tp_btf": "raw_tracepoint",
    "raw_tracepoint.w": "raw_tracepoint",
    "kprobe.multi": "kprobe",
    "kretprobe.multi": "kretprobe",
    "kprobe.session": "kprobe",
    "uprobe.multi": "uprobe",
    "uretprobe.multi": "uretprobe",
    "fentry.s": "fentry",
    "fentry.multi": "fentry",
    "fentry.multi.s": "fentry",
    "fexit.multi": "fexit",
    "fexit.multi.s": "fexit",
    "fexit.s": "fexit",
    "lsm.s": "lsm",
    "iter.s": "iter",
}
_FUNCTIONS = ("fentry", "fexit", "fmod_ret", "fsession", "lsm", "tp_btf")  # a colon divides a module's name from theirs
# These programs are attached to something their section name does not say: an interface, a cgroup, a socket.
_ELSEWHERE = (
    P.XDP, P.SCHED_CLS, P.SCHED_ACT, P.SOCKET_FILTER, P.CGROUP_SKB, P.CGROUP_SOCK, P.CGROUP_SOCK_ADDR, P.CGROUP_SOCKOPT,
    P.CGROUP_SYSCTL, P.CGROUP_DEVICE, P.SOCK_OPS, P.SK_SKB, P.SK_MSG, P.SK_LOOKUP, P.SK_REUSEPORT, P.FLOW_DISSECTOR, P.PERF_EVENT,
    P.NETFILTER, P.SYSCALL,
)  # fmt: skip


# What any program takes: here every hook has a name and a cookie.
OWN_OPTIONS = ("target", "cookie")


# Their links have an operation for BPF_LINK_DETACH (struct bpf_link_ops in kernel/bpf and net).
_DETACHED = (
    P.XDP, P.SCHED_CLS, P.CGROUP_SKB, P.CGROUP_SOCK, P.CGROUP_SOCK_ADDR, P.CGROUP_SOCKOPT, P.CGROUP_SYSCTL, P.CGROUP_DEVICE,
    P.SOCK_OPS, P.SK_LOOKUP, P.SK_MSG, P.SK_SKB, P.FLOW_DISSECTOR, P.NETFILTER, P.STRUCT_OPS,
)  # fmt: skip


def hook_name(text: str) -> str:
    """A hook's name in one spelling: ``tp/x/y`` is ``tracepoint/x/y``, ``fentry/vmlinux:x`` is ``fentry/x``."""
    kind, slash, target = text.partition("/")
    kind = _ALIASES.get(kind, kind)
    return f"{kind}{slash}{target.removeprefix('vmlinux:') if kind in _FUNCTIONS else target}"


class EngineLink(Attachment):
    """A program attached to a hook, until it is closed."""

    __slots__ = ("_open", "_users", "engine", "number")

    def __init__(
        self, engine: Machine, program: LoadedProgram, hook: str, cookie: int, options: Mapping[str, Any]
    ) -> None:
        super().__init__(program, hook, cookie, cgroup_number(options), options, engine.next_id())
        self.engine = engine
        self.number = engine.next_fd()
        self._users = 1
        self._open = True
        engine.hooks.append(self)

    @property
    def fd(self) -> int:
        """The number that stands for a descriptor, negative once closed."""
        return self.number if self._open else -1

    def info(self) -> dict[str, Any]:
        """What the kernel would tell of a link."""
        return {"type": self.program.spec.section.split("/")[0], "id": self.ident, "prog_id": self.program.ident}

    def update(self, program: int, old: int | None) -> int:
        """Put the program with a number in place of this one: 0 or -errno."""
        new = self.engine.programs.get(program)
        if new is None:
            return -9
        if old is not None and self.engine.programs.get(old) is not self.program:
            return -1
        if new.type != self.program.type:
            return -22
        before, self.program = self.program, new.duplicate()
        before.close()
        return 0

    def detach(self) -> int:
        """Take the program off the hook: 0, or -EOPNOTSUPP for kinds of links that the kernel detaches with their last user."""
        if self.program.type not in _DETACHED:
            return -95
        self._take_off()
        return 0

    def _take_off(self) -> None:
        if self in self.engine.hooks:
            self.engine.hooks.remove(self)
            self.program.close()

    def pin(self, path: str) -> int:
        """Raises NotSupported: there is no file system for it."""
        raise no_pins(f"link of program {self.program.name}: pin")

    def opened_at(self, path: str) -> EngineLink:
        """Raises NotSupported: there is no file system for pins."""
        raise no_pins(path)

    def duplicate(self) -> OpenedLink:
        """Another handle of the same link, which stays attached as long as one of them is open."""
        self._users += 1
        return OpenedLink(self)

    def iterate(self) -> int:
        """A descriptor of a file with what an iterator program writes, or -EINVAL. Raises what running it raises."""
        if self.program.spec.attach_type != AttachType.TRACE_ITER:
            return -22
        import tempfile

        with tempfile.TemporaryFile() as file:
            file.write(iterators.read(self.engine, self.program, self.options))
            file.seek(0)
            return os.dup(file.fileno())

    def close(self) -> None:
        """Close this handle; the last one detaches. Closing twice is harmless."""
        if self._open:
            self._open = False
            self.let_go()

    def let_go(self) -> None:
        """One handle less."""
        self._users -= 1
        if not self._users:
            self._take_off()


class OpenedLink(Owned):
    """A link opened by its id.

    Attributes:
        hook: the hook's name.
    """

    __slots__ = ("_link", "_number", "hook")

    def __init__(self, link: EngineLink) -> None:
        self._link = link
        self._number = link.engine.next_fd()
        self.hook = link.hook

    @property
    def fd(self) -> int:
        """The number that stands for a descriptor, negative once closed."""
        return self._number

    def info(self) -> dict[str, Any]:
        """What the kernel would tell of the link."""
        return self._link.info()

    def update(self, program: int, old: int | None) -> int:
        """See `EngineLink.update`."""
        return self._link.update(program, old)

    def detach(self) -> int:
        """Take the program off the hook, though others have the link open."""
        return self._link.detach()

    def pin(self, path: str) -> int:
        """Raises NotSupported: there is no file system for it."""
        return self._link.pin(path)

    def opened_at(self, path: str) -> EngineLink:
        """Raises NotSupported: there is no file system for pins."""
        return self._link.opened_at(path)

    def iterate(self) -> int:
        """See `EngineLink.iterate`."""
        return self._link.iterate()

    def close(self) -> None:
        """Close this handle; the last one detaches. Closing twice is harmless."""
        number, self._number = self._number, -1
        if number >= 0:
            self._link.let_go()


if TYPE_CHECKING:

    def _proof(handle: EngineLink) -> LinkHandle:
        return handle

    def _proof_of_opened(handle: OpenedLink) -> LinkHandle:
        return handle


def can_attach(spec: ProgramSpec) -> bool:
    """Whether the section name alone says where such programs belong."""
    return spec.type not in _ELSEWHERE and spec.type not in (P.STRUCT_OPS, P.EXT) and bool(spec.target)


def _attach_many(
    engine: Machine, program: LoadedProgram, spec: ProgramSpec, symbols: list[str], options: dict[str, Any]
) -> Sequence[EngineLink]:
    """Attach to several functions, each with a cookie of its own. Raises AttachError."""
    cookies = options.pop("cookies", None) or [0] * len(symbols)
    if not symbols or len(cookies) != len(symbols):
        raise AttachError(f"program {spec.name}: attach: {len(cookies)} cookies for {len(symbols)} functions")
    kind = hook_name(spec.section.split("/")[0])
    binary = options.get("binary")
    names = [f"{kind}/{binary}:{symbol}" if binary is not None else f"{kind}/{symbol}" for symbol in symbols]
    return [
        EngineLink(engine, program, name, int(cookie), options) for name, cookie in zip(names, cookies, strict=True)
    ]


def attach(engine: Machine, program: LoadedProgram, spec: ProgramSpec, options: dict[str, Any]) -> Sequence[EngineLink]:
    """Attach to a hook: by the section name, or ``target=``; for interfaces and cgroups any name will do.

    Raises AttachError when neither says where, or for an option programs of this kind do not take.
    """
    found = attach_options.hook_of(spec.type, spec.attach_type, spec.section)
    known = dict.fromkeys((*(found.names if found is not None else ()), *OWN_OPTIONS))
    options = attach_options.check(f"program {spec.name}: attach", spec.type.name, options, known)
    cookie = int(options.pop("cookie", 0))
    target = options.pop("target", None)
    symbols = options.pop("symbols", None) if spec.attach_type in MANY else None
    if symbols is not None:
        return _attach_many(engine, program, spec, list(symbols), options)
    if target is None and spec.type in _ELSEWHERE:
        given = [str(options[key]) for key in ("cgroup", "device", "netns", "map") if key in options]
        target = given[0] if given else spec.target or "any"
        hook = f"{hook_name(spec.section.split('/')[0])}/{target}"
    else:
        target = target or spec.target
        if not target:
            raise AttachError(
                f"program {spec.name}: attach: SEC({spec.section!r}) names no target; add one, or give target="
            )
        hook = hook_name(f"{spec.section.split('/')[0]}/{target}")
    if spec.attach_type == AttachType.TRACE_ITER:
        iterators.check_options(program, options)
    link = EngineLink(engine, program, hook, cookie, options)
    attached(program.maps, int(program.spec.attach_type or 0), link.cgroup)
    return [link]


def fire(engine: Machine, hook: str, arguments: Sequence[Any], fields: Mapping[str, Any]) -> list[int]:
    """Run every program attached to a hook, in the order they were attached: their results."""
    name = hook_name(hook)
    data = fields.get("data", b"") if "data" in fields else b""
    others = {key: value for key, value in fields.items() if key != "data"} if data else fields
    results = []
    for link in [link for link in engine.hooks if link.hook == name or link.matches(name)]:
        done = run_program(engine, link.program, None, data, arguments, others, link.cookie, link.cgroup)
        results.append(done.return_value)
    return results
