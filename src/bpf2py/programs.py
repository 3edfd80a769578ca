"""`Program`: a loaded program; `Link`: its attachment to a hook."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING, Any, BinaryIO, Unpack
from bpf2py.backends import BackendChoice, resolve_backend
from bpf2py.errors import AttachError, BpfError, BpfOSError, ClosedError, NotSupported
from bpf2py.owned import Finalizer, Owned
from bpf2py.spec.program_spec import ProgramSpec
from bpf2py.uapi.limits import names_limits
from bpf2py.uapi.program_types import ProgramType

if TYPE_CHECKING:
    import contextlib
    import warnings
    import weakref

    from bpf2py.linker import digest as digest_module
    from bpf2py.seam import verifier_stats as stats_module
    from bpf2py.seam.info import ProgramInfo, TestRunResult
    from bpf2py.seam.protocol import Closable, LinkHandle, ProgramHandle
    from bpf2py.seam.verifier_stats import VerifierStats
    from bpf2py.uapi import pins
    from bpf2py.uapi.attach_options import AttachOptions
else:
    pins = module("bpf2py.uapi.pins")
    contextlib = module("contextlib")
    warnings = module("warnings")
    weakref = module("weakref")
    digest_module = module("bpf2py.linker.digest")
    stats_module = module("bpf2py.seam.verifier_stats")

TEST_XDP_LIVE_FRAMES = 1 << 1  # include/uapi/linux/bpf.h: BPF_F_TEST_XDP_LIVE_FRAMES


def _must_exist(path: str, what: str) -> None:
    if not os.path.lexists(path):
        raise FileNotFoundError(2, f"{what}: nothing is pinned", path)


def _close_all(handles: list[LinkHandle]) -> None:
    for handle in handles:
        handle.close()


class Links:
    """The open links of an object, which keeps them until it is closed, whether or not anybody else does."""

    __slots__ = ("__weakref__", "_closed", "_links")

    def __init__(self) -> None:
        self._links: dict[int, Link] = {}  # in the order they were made
        self._closed = False

    def add(self, link: Link) -> None:
        """Keep a link until it is closed. Raises ClosedError, and closes it, when the object was closed meanwhile."""
        self._links[id(link)] = link
        if self._closed:
            link.close()
            raise ClosedError(f"program {link.program}: attach: the object was closed meanwhile")

    def discard(self, link: Link) -> None:
        """Forget a link; harmless for one that is not among them."""
        self._links.pop(id(link), None)

    def open(self) -> tuple[Link, ...]:
        """The open links, oldest first."""
        return tuple(self._links.values())

    def end(self) -> tuple[Link, ...]:
        """The open links, to be closed by the caller; no more are taken."""
        self._closed = True
        return self.open()


class Link(Owned):
    """An attachment, owned by the object its program belongs to: `Object.close()` detaches it, if `close()` did not before.

    A link that belongs to no object is detached when it is collected, with a ResourceWarning. A pinned one stays attached in
    any case.

    Attributes:
        program: name of the program.
        hook: where it is attached, such as ``"tracepoint/syscalls/sys_enter_execve"``.
    """

    def __init__(self, handles: Sequence[LinkHandle], program: str, owner: Links | None = None) -> None:
        self._handles = list(handles)
        self._handle = handles[0]
        self.program = program
        self.hook = handles[0].hook
        self._finalizer = weakref.finalize(self, _close_all, self._handles)
        self._owner = weakref.ref(owner) if owner is not None else None
        self._process = os.getpid()
        self._stays = False  # attached whatever becomes of this link
        if owner is not None:
            owner.add(self)

    def __del__(self) -> None:
        # At exit the finalizer was called before, and in a forked child the attachment is the parent's.
        if self._finalizer.alive and not self._stays and os.getpid() == self._process:
            warnings.warn(
                f"{self!r} was never closed: it is detached now, and its program sees nothing any more; "
                "keep the object it belongs to, or the link, as long as the program should run",
                ResourceWarning,
                stacklevel=2,
            )
            self._finalizer()

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return not self._finalizer.alive

    @property
    def info(self) -> dict[str, Any]:
        """What the kernel tells of it (Linux 5.8); empty for attachments without a link object.

        ``type`` (such as ``"perf_event"``), ``id``, ``prog_id``, and what the type has: ``name`` of a tracepoint, ``ifindex``,
        ``attach_type``, ``cgroup_id``, ``cookie`` ... (the kernel's names, see struct bpf_link_info).
        """
        return self._handle.info()

    def fileno(self) -> int:
        """The descriptor of the link. Raises ClosedError."""
        if self.closed:
            raise ClosedError(f"link of program {self.program}: the link is closed")
        return int(self._handle.fd)

    def pin(self, path: str | os.PathLike[str]) -> None:
        """Pin to a file of the BPF file system: the program stays attached when the process ends (Linux 5.7)."""
        self.fileno()
        path = pins.pin_path(path, f"link of program {self.program}: pin")
        if os.path.lexists(path):
            raise FileExistsError(f"link of program {self.program}: pin: {path} exists")
        result = self._handle.pin(path)
        if result < 0:
            raise BpfOSError(
                f"link of program {self.program}: pin: {path} must be on a BPF file system (mount -t bpf bpf /sys/fs/bpf)",
                errno=-result,
                command="BPF_OBJ_PIN",
            )
        self._stays = True

    def unpin(self, path: str | os.PathLike[str]) -> None:
        """Remove a pin of this link; the attachment goes with its last user.

        Raises FileNotFoundError when nothing is there, BpfError when something else is pinned there.
        """
        what = f"link of program {self.program}: unpin"
        path = pins.pin_path(path, what)
        _must_exist(path, what)
        with contextlib.closing(self._handle.opened_at(path)) as pinned:
            ident = pinned.info().get("id")
            if ident != self.info.get("id"):
                raise BpfError(f"{what}: {path} pins link {ident}, not this one")
        os.unlink(path)
        self._stays = False

    def update(self, program: Program, old: Program | None = None) -> None:
        """Put another program in place of the attached one, without a gap (Linux 5.7).

        Args:
            program: of the same type, loaded for the same hook.
            old: replace only if this is the one attached.

        Raises BpfOSError when the kind of link does not allow it, or `old` is not the one attached.
        """
        self.fileno()
        for handle in self._handles:
            result = handle.update(program.fileno(), old.fileno() if old is not None else None)
            if result < 0:
                raise BpfOSError(
                    f"link of program {self.program}: update: {self.hook} did not take program {program.name}",
                    errno=-result,
                    command="BPF_LINK_UPDATE",
                )
        self.program = program.name

    def open(self) -> BinaryIO:
        """For iterator programs: run it, and read what it writes (Linux 5.8).

        Returns:
            A binary file; each `open()` starts from the beginning.
        """
        self.fileno()
        fd = self._handle.iterate()
        if fd < 0:
            raise BpfOSError(
                f"link of program {self.program}: open: only iterator programs can be read",
                errno=-fd,
                command="BPF_ITER_CREATE",
            )
        return os.fdopen(fd, "rb")

    def close(self) -> None:
        """Detach; closing twice is harmless."""
        owner = self._owner() if self._owner is not None else None
        if owner is not None:
            owner.discard(self)
        self._finalizer()

    @staticmethod
    def from_pin(path: str | os.PathLike[str], *, backend: BackendChoice = None) -> Link:
        """Open a pinned link (Linux 5.7); closing it leaves the program attached as long as the pin is there."""
        return Link._opened(resolve_backend(backend).open_link_pin(os.fspath(path)))

    @staticmethod
    def from_id(ident: int, *, backend: BackendChoice = None) -> Link:
        """Open the link with this id (Linux 5.8, CAP_SYS_ADMIN); `detach()` takes the program off its hook."""
        return Link._opened(resolve_backend(backend).open_link_id(pins.object_id(ident, "link")))

    @staticmethod
    def _opened(handle: LinkHandle) -> Link:
        link = Link([handle], str(handle.info().get("prog_id", "")))
        link._stays = True  # by what holds it elsewhere
        return link

    def detach(self) -> None:
        """Take the program off its hook at once, also where the link is pinned or open elsewhere (Linux 5.9).

        Raises BpfOSError for kinds of links that only go with their last descriptor.
        """
        self.fileno()
        for handle in self._handles:
            result = handle.detach()
            if result < 0:
                raise BpfOSError(
                    f"link of program {self.program}: detach: {self.hook} is detached by closing it and removing its pins",
                    errno=-result,
                    command="BPF_LINK_DETACH",
                )

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Link {self.program} at {self.hook}{' (closed)' if self.closed else ''}>"


class Stats(Owned):
    """While it is open the kernel counts runs and run time of all programs (`Program.info`); a context manager."""

    def __init__(self, handle: Closable) -> None:
        self._finalizer = weakref.finalize(self, handle.close)

    def close(self) -> None:
        """Stop counting; closing twice is harmless."""
        self._finalizer()

    def __enter__(self) -> Stats:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def enable_stats(backend: BackendChoice = None) -> Stats:
    """Count runs and run time of all programs of the machine, or of an engine (Linux 5.8, CAP_SYS_ADMIN).

    Example:
        >>> with bpf2py.enable_stats():          # doctest: +SKIP
        ...     ...
        ...     print(obj.programs["count"].info.run_count)
    """

    return Stats(resolve_backend(backend).enable_stats())


def _is_context(value: Any) -> bool:
    return isinstance(value, bytes | bytearray | memoryview | Mapping | list | tuple) or hasattr(value, "__bytes__")


class Program(Owned):
    """A program the kernel (or engine) accepted.

    Attributes:
        name: the C function's name (15 characters of it for a program that was opened, not loaded).
        spec: what it was loaded from, None for a program that was opened.
    """

    def __init__(self, handle: ProgramHandle, spec: ProgramSpec | None, links: Links | None = None) -> None:
        self._handle = handle
        self._links = links
        self.spec = spec
        self.name = spec.name if spec is not None else handle.info().name
        self._finalizer = Finalizer(self, handle.close)

    @staticmethod
    def from_pin(path: str | os.PathLike[str], *, backend: BackendChoice = None) -> Program:
        """Open a pinned program (Linux 4.4). Raises BpfOSError when nothing is pinned there."""
        return Program(resolve_backend(backend).open_program_pin(os.fspath(path)), None)

    @staticmethod
    def open(path: str | os.PathLike[str], *, backend: BackendChoice = None) -> Program:
        """Former name of `from_pin`."""
        warnings.warn("Program.open() is called Program.from_pin() now", DeprecationWarning, stacklevel=2)
        return Program.from_pin(path, backend=backend)

    @staticmethod
    def from_id(ident: int, *, backend: BackendChoice = None) -> Program:
        """Open the program with this id (Linux 4.13, CAP_SYS_ADMIN)."""
        return Program(resolve_backend(backend).open_program_id(pins.object_id(ident, "program")), None)

    @property
    def type(self) -> ProgramType | int:
        """The program type, a number where it is newer than this library."""
        if self.spec is not None:
            return self.spec.type
        number = self.info.type
        try:
            return ProgramType(number)
        except ValueError:
            return number

    @property
    def info(self) -> ProgramInfo:
        """Facts of the program, read now: id, tag, sizes, run statistics."""
        self.fileno()
        return self._handle.info()

    @property
    def digest(self) -> bytes:
        """SHA-256 of the instructions it was loaded from, 32 bytes: what `exclusive` maps know it by (Linux 6.18).

        Descriptors of maps count as zeros: the same program has the same hash in every process. Raises NotSupported for a program
        that another process loaded: of it the kernel tells the first 8 bytes alone, `info.tag`.
        """
        code = self._handle.loaded_code
        if not code:
            raise NotSupported(
                f"program {self.name}: digest: another process loaded it; the kernel tells its first 8 bytes, info.tag",
                feature="digest",
            )
        return digest_module.program_digest(code)

    @property
    def verifier_log(self) -> str:
        """What the verifier wrote when the program was loaded with `log_level`; else empty, as on the engine."""
        return self._handle.verifier_log

    @property
    def verifier_stats(self) -> VerifierStats | None:
        """What verifying the program took, when it was loaded with a `log_level` that has 4 in it; else None."""
        return stats_module.verifier_stats(self._handle.verifier_log)

    def fileno(self) -> int:
        """The program's descriptor. Raises ClosedError."""
        if self.closed:
            raise ClosedError(f"program {self.name}: the program is closed")
        return self._handle.fd

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return not self._finalizer.alive

    @names_limits
    def attach(self, **options: Unpack[AttachOptions]) -> Link:
        """Attach to the hook the section name says, or the options: ``device=`` of XDP programs, ``cgroup=``, ``pid=`` ...

        What each hook takes stands in the reference of attach options. None counts as not given.

        Returns:
            The link, for detaching early: its object keeps it, and detaches when it is closed.

        Raises:
            AttachError: the hook does not exist, or refused the program; it does not take such an option.
            PermissionDenied: a right is missing.
        """
        self.fileno()
        if self.spec is None:
            raise AttachError(
                f"program {self.name}: attach: an opened program does not know its section; attach the loaded one"
            )
        try:
            handles = self._handle.attach(self.spec, {**options})
        except BpfError:
            self.fileno()  # another thread may have closed it meanwhile
            raise
        return Link(handles, self.name, self._links)

    def xlated(self) -> bytes:
        """The instructions as the kernel runs them, after the verifier's rewriting (Linux 4.13, CAP_SYS_ADMIN); else empty."""
        self.fileno()
        return self._handle.code(jited=False)

    def jited(self) -> bytes:
        """The machine code; empty where the kernel does not show it (kernel.kptr_restrict, no JIT)."""
        self.fileno()
        return self._handle.code(jited=True)

    def source_lines(self) -> list[tuple[int, str]]:
        """(number of the instruction, ``file:line: text``) where another source line begins (Linux 5.0); empty without BTF."""
        self.fileno()
        return self._handle.source_lines()

    def disassemble(self, *, source: bool = False) -> str:
        """The instructions the kernel runs, one a line; with `source` each source line in front of those made from it."""
        from bpf2py.isa.disasm import disassemble

        code = self.xlated()
        symbols = self._handle.helper_names(code)
        lines = dict(self.source_lines()) if source else {}
        shown, text = "", []
        for line in disassemble(code, symbols=symbols):
            begins = lines.get(line.slot, shown)
            if begins != shown:
                text.append(f"; {begins}")
                shown = begins
            text.append(str(line))
        return "\n".join(text)

    def pin(self, path: str | os.PathLike[str]) -> None:
        """Pin to a file of the BPF file system (Linux 4.4): the program then outlives the process."""
        self.fileno()
        path = pins.pin_path(path, f"program {self.name}: pin")
        if os.path.lexists(path):
            raise FileExistsError(f"program {self.name}: pin: {path} exists")
        result = self._handle.pin(path)
        if result < 0:
            raise BpfOSError(
                f"program {self.name}: pin: {path} must be on a BPF file system (mount -t bpf bpf /sys/fs/bpf)",
                errno=-result,
                command="BPF_OBJ_PIN",
            )

    def unpin(self, path: str | os.PathLike[str]) -> None:
        """Remove a pin of this program; the program itself goes with its last user.

        Raises FileNotFoundError when nothing is there, BpfError when something else is pinned there.
        """
        what = f"program {self.name}: unpin"
        path = pins.pin_path(path, what)
        _must_exist(path, what)
        with contextlib.closing(self._handle.opened_at(path)) as pinned:
            info = pinned.info()
            if info.id != self.info.id:
                raise BpfError(f"{what}: {path} pins program {info.name} (id {info.id}), not this one")
        os.unlink(path)

    def test_run(
        self,
        data: bytes = b"",
        context: bytes = b"",
        *,
        repeat: int = 1,
        cpu: int | None = None,
        flags: int = 0,
        live_frames: bool = False,
        batch_size: int = 0,
    ) -> TestRunResult:
        """Run the program without attaching it (Linux 4.12; by program type up to 6.x).

        Args:
            data: a packet, for XDP, tc, socket filter and similar programs (at least 14 bytes).
            context: the context as bytes (raw_tp: up to 12 64-bit arguments; syscall programs: any structure).
            repeat: how often, for packet programs.
            cpu: run on this CPU (raw_tp programs).
            flags: BPF_F_TEST_* flags.
            live_frames: XDP: the frames really go where the program sends them: up the stack, back, to other devices
                (BPF_F_TEST_XDP_LIVE_FRAMES, Linux 5.18); no data comes back.
            batch_size: live frames sent at once, 1..256; 0: the kernel's choice (64).

        Returns:
            A `TestRunResult`: return_value, data, context, duration_ns.

        Raises:
            NotSupported: this program type cannot be run so.
        """
        self.fileno()
        if not live_frames:
            return self._handle.test_run(self.name, data, context, repeat, cpu, flags)
        flags |= TEST_XDP_LIVE_FRAMES
        return self._handle.test_run(self.name, data, context, repeat, cpu, flags, batch_size)

    def stream(self, number: int) -> bytes:
        """Take everything out of an output stream: 1 is the standard output, 2 the errors (Linux 6.17).

        Programs write with ``bpf_stream_printk(BPF_STDOUT, "...")``; the kernel reports faults and timeouts at run time to 2.
        A stream holds 100,000 bytes; what is written while it is full is lost, and so is what the kernel has no memory for:
        ``bpf_stream_printk()`` returns a negative error then.

        Raises NotSupported on older kernels, BpfOSError when there is no such stream.
        """
        self.fileno()
        return self._handle.read_stream(self.name, number)

    def stdout(self) -> str:
        """What the program wrote to stream 1 since the last call."""
        return self.stream(1).decode("utf-8", "replace")

    def stderr(self) -> str:
        """What the program and the kernel wrote to stream 2 since the last call: also faults and timeouts at run time."""
        return self.stream(2).decode("utf-8", "replace")

    def run(
        self, context: object = None, *arguments: object, data: bytes = b"", cpu: int | None = None, **fields: object
    ) -> TestRunResult:
        """Run the program once on a context made from Python values: on the engine any program, on the kernel what `test_run` runs.

        Args:
            context: the context's bytes, its members as a mapping, or its arguments as a sequence; or simply:
            arguments: of a raw tracepoint, a traced or a probed function, in order: numbers; on the engine also text and, for
                pointers to structs, mappings of members.
            data: a packet, for programs that see packets.
            cpu: run on this CPU.
            fields: members of the context's struct by name (engine).

        Returns:
            A `TestRunResult`; an XDP or tc program's verdict is its `return_value`, `data` the packet as it was left.

        Raises:
            EncodeError: the values do not make up this program's context.
            ProgramFault: the engine stopped the program.
            NotSupported: the kernel has no test runs for this type of program.

        Example:
            >>> obj.programs["count"].run(filename="/bin/ls")         # doctest: +SKIP
            >>> obj.programs["filter"].run(data=packet).return_value  # doctest: +SKIP
            1
        """
        self.fileno()
        if context is not None and not _is_context(context):
            arguments, context = (context, *arguments), None
        return self._handle.run(self.name, context, data, arguments, fields, cpu)

    def close(self) -> None:
        """Close the descriptor; links keep the program alive."""
        self._finalizer()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        kind = "closed" if self.closed else getattr(self.type, "name", self.type)
        where = f" SEC({self.spec.section!r})" if self.spec is not None else ""
        return f"<Program {self.name}: {kind}{where}>"
