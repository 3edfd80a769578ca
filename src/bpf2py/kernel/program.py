"""`KernelProgram`: a program of the kernel, and what can be done with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.kernel.objects import must_be, open_pinned
from bpf2py.kernel.program_fd import ProgramFd

if TYPE_CHECKING:
    from bpf2py.kernel import inspect, prog_test_run
    from bpf2py.kernel.link import KernelLink
    from bpf2py.seam.info import TestRunResult
    from bpf2py.seam.protocol import ProgramHandle
    from bpf2py.spec.program_spec import ProgramSpec
else:
    inspect = module("bpf2py.kernel.inspect")
    prog_test_run = module("bpf2py.kernel.prog_test_run")

__all__ = ["KernelProgram", "open_program_pin"]


class KernelProgram(ProgramFd):
    """A loaded program."""

    __slots__ = ()

    def opened_at(self, path: str) -> KernelProgram:
        """The program that is pinned at a path. Raises PermissionDenied or BpfOSError."""
        return open_program_pin(path)

    def attach(self, spec: ProgramSpec, options: dict[str, Any]) -> Sequence[KernelLink]:
        """Attach to the hook the section name or the options say. Raises AttachError or another typed error."""
        from bpf2py.kernel.attach import attach

        held = self.hold()
        try:
            return attach(self, spec, options)
        finally:
            del held  # another thread may have closed the program: its number was not given to another one before here

    def test_run(
        self,
        name: str,
        data: bytes,
        context: bytes,
        repeat: int = 1,
        cpu: int | None = None,
        flags: int = 0,
        batch_size: int = 0,
    ) -> TestRunResult:
        """BPF_PROG_TEST_RUN. Raises NotSupported, PermissionDenied or BpfOSError."""
        held = self.hold()
        return prog_test_run.run(f"program {name}: test_run", held.value, data, context, repeat, cpu, flags, batch_size)

    def run(
        self,
        name: str,
        context: object,
        data: bytes,
        arguments: Sequence[object],
        fields: Mapping[str, object],
        cpu: int | None,
    ) -> TestRunResult:
        """A test run on a context of bytes or numbers. Raises EncodeError for any other."""
        return self.test_run(name, data, prog_test_run.context_bytes(name, context, arguments, fields), cpu=cpu)

    def read_stream(self, name: str, stream: int) -> bytes:
        """What is in a stream, taken out of it (Linux 6.17). Raises NotSupported or BpfOSError."""
        from bpf2py.kernel.stream import read_stream

        held = self.hold()
        return read_stream(f"program {name}: stream {stream}", held.value, stream)

    def code(self, jited: bool) -> bytes:
        """The code as the kernel runs it."""
        held = self.hold()
        return inspect.code(held.value, jited)

    def source_lines(self) -> list[tuple[int, str]]:
        """(instruction, source line) of the code as the kernel runs it."""
        held = self.hold()
        return inspect.source_lines(held.value)

    def helper_names(self, code: bytes) -> dict[int, str]:
        """Names of the helpers that code as the kernel runs it calls, by instruction."""
        return inspect.helper_names(code)


def open_program_pin(path: str) -> KernelProgram:
    """A pinned program. Raises PermissionDenied or BpfOSError."""
    what = f"pinned program {path}: open"
    return KernelProgram(must_be("program", open_pinned(path, what), what), path)


if TYPE_CHECKING:

    def _proof(handle: KernelProgram) -> ProgramHandle:
        return handle
