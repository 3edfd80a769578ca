"""`Symbolizer`: addresses of the kernel and of processes to names."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from bpf2py.elf.linked_file import Buffer
from bpf2py.symbols.image import Image, build_id_of, open_file, read_image
from bpf2py.symbols.kernel import KernelSymbols
from bpf2py.symbols.mangled import demangle
from bpf2py.symbols.process import Mapping, Process

__all__ = ["Frame", "Symbolizer"]

KERNEL_START = 1 << 63  # on 64-bit machines user space is below


class Frame(NamedTuple):
    """A place in code.

    Attributes:
        address: what was asked for.
        name: the function, as its source has it; empty where nobody knows.
        offset: bytes from the function's start, or, without a name, from the start of the file.
        module: the file, kernel module, ``"[vdso]"``, or an empty string: the kernel itself, memory without a file.
        kind: ``"kernel"``, ``"user"`` or ``"jit"``; ``"unknown"`` for addresses in nothing that is mapped.
    """

    address: int
    name: str = ""
    offset: int = 0
    module: str = ""
    kind: str = "unknown"

    @property
    def short(self) -> str:
        """A name for a chart: the function, else ``[file]``, else the address."""
        return self.name or (f"[{self.file}]" if self.module else f"{self.address:#x}")

    @property
    def file(self) -> str:
        """The module's name without its directories."""
        return os.path.basename(self.module).strip("[]")

    def __str__(self) -> str:
        module = f" [{self.file}]" if self.module else ""
        if self.name:
            return f"{self.name}+{self.offset:#x}{module}"
        return f"{self.offset:#x}{module}" if module else f"{self.address:#x}"


class Symbolizer:
    """Names addresses, many at a time.

    Files are read once and remembered by their build id; processes are remembered with their mappings, so that addresses of one
    that has gone meanwhile can still be named. Not named are inlined functions (their caller is) and code of 32-bit processes.

    Attributes:
        problems: files whose functions are not known, and why.

    Example:
        >>> names = Symbolizer()                                                # doctest: +SKIP
        >>> [str(frame) for frame in names.user(pid, addresses)]                # doctest: +SKIP
        ['malloc+0x1c [libc.so.6]', 'main+0x40 [prog]']
    """

    def __init__(self, *, files: int = 256, processes: int = 4096, demangled: bool = True) -> None:
        self.problems: dict[str, str] = {}
        self._demangled = demangled
        self._most_files, self._most_processes = files, processes
        self._kernel = KernelSymbols()
        self._processes: OrderedDict[int, Process] = OrderedDict()
        self._images: OrderedDict[str, Image | None] = OrderedDict()

    def remember(self, pid: int) -> None:
        """Look at a process now, in case it has gone when its addresses are to be named."""
        self._process(pid)

    def kernel(self, addresses: Iterable[int], *, callers: bool = False) -> list[Frame]:
        """Kernel functions.

        Args:
            addresses: any; of those that are hidden (kernel.kptr_restrict) nothing is known.
            callers: these are a stack: all but the first are return addresses, which belong to the call before them.
        """
        return [self._kernel_frame(address, callers and position > 0) for position, address in enumerate(addresses)]

    def user(self, pid: int, addresses: Iterable[int], *, callers: bool = False) -> list[Frame]:
        """Functions of a process; see `kernel`. Kernel addresses among them are named as such."""
        process, frames, fresh = self._process(pid), [], False
        for position, address in enumerate(addresses):
            back = callers and position > 0
            if address >= KERNEL_START:
                frames.append(self._kernel_frame(address, back))
                continue
            mapping = process.at(address)
            if mapping is None and not fresh:  # it may have loaded a library since
                fresh = True
                process.refresh()
                mapping = process.at(address)
            frames.append(self._user_frame(process, mapping, address, back))
        return frames

    def stack(self, addresses: Iterable[int], pid: int | None = None) -> list[Frame]:
        """A stack, innermost first, as `bpf_get_stack()` and `bpf_get_stackid()` give it: of the kernel, or of a process."""
        if pid is None:
            return self.kernel(addresses, callers=True)
        return self.user(pid, addresses, callers=True)

    # -- pieces --------------------------------------------------------------------------------------------------

    def _kernel_frame(self, address: int, back: bool) -> Frame:
        found = self._kernel.at(address - back)
        if found is None:
            return Frame(address, kind="kernel" if address >= KERNEL_START else "unknown")
        name, module, offset = found
        return Frame(address, self._name(name), offset + back, module, "kernel")

    def _user_frame(self, process: Process, mapping: Mapping | None, address: int, back: bool) -> Frame:
        if mapping is None:
            return Frame(address)
        if not mapping.path or mapping.path.startswith(("//anon", "[anon", "/memfd:", "/dev/zero")):
            jit = process.jit(address - back)
            if jit is not None:
                return Frame(address, jit[0], jit[1] + back, "", "jit")
        offset = address - mapping.start + mapping.offset
        image = self._image(process, mapping)
        if image is not None:
            own = image.address_of(offset - back)
            found = image.at(own) if own is not None else None
            if found is not None:
                return Frame(address, self._name(found[0]), found[1] + back, mapping.path, "user")
        return Frame(address, "", offset, mapping.path, "user")

    def _name(self, name: str) -> str:
        return demangle(name) if self._demangled else name

    def _process(self, pid: int) -> Process:
        known = self._processes.get(pid)
        if known is not None and not known.replaced:
            self._processes.move_to_end(pid)
            return known
        found = self._processes[pid] = Process(pid)
        if len(self._processes) > self._most_processes:
            self._processes.popitem(last=False)
        return found

    def _image(self, process: Process, mapping: Mapping) -> Image | None:
        try:
            return process.images[mapping]
        except KeyError:
            pass
        if mapping.path == "[vdso]":
            image = self._known("[vdso]", process.read_memory(mapping.start, mapping.end - mapping.start), mapping, "")
        else:
            image = self._from_file(process, mapping) if mapping.inode else None
        process.images[mapping] = image
        return image

    def _from_file(self, process: Process, mapping: Mapping) -> Image | None:
        for path in process.paths_of(mapping):
            opened = open_file(path)
            if opened is None:
                continue
            with opened:
                # Some file systems (overlayfs, btrfs) show another device in maps: the inode decides.
                try:
                    same = os.stat(path).st_ino == mapping.inode
                except (
                    OSError
                ):  # the process has ended since it was opened; what was opened by its place there is the file
                    same = path == process.paths_of(mapping)[0]
                if same:
                    key = build_id_of(opened) or path
                    return self._known(key, opened, mapping, f"/proc/{process.pid}/root")
        self.problems[mapping.path] = "it cannot be opened, or another file has its name by now"
        return None

    def _known(self, key: str, data: Buffer, mapping: Mapping, root: str) -> Image | None:
        """The file's functions, remembered by its build id; a file without one for this process alone."""
        if key in self._images:
            self._images.move_to_end(key)
            return self._images[key]
        if not data:
            return None
        try:
            image: Image | None = read_image(data, os.path.dirname(mapping.path), root)
        except ValueError as error:
            self.problems[mapping.path] = str(error)
            return None
        if not image:
            self.problems[mapping.path] = "it is stripped, and there is no debug file for it"
        if not key.startswith("/"):
            self._images[key] = image
            if len(self._images) > self._most_files:
                self._images.popitem(last=False)
        return image
