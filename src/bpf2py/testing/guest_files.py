"""What a guest has in its memory: a Python, this library, and the files asked for, as the archives the kernel unpacks at boot.

Everything the guest runs lies in its memory, so that no driver, module or shared file system is needed: any kernel image boots.
The format is the kernel's Documentation/driver-api/early-userspace/buffer-format.rst ("newc").
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path, PurePosixPath

from bpf2py.errors import GuestError
from bpf2py.user_cache import trusted_directory, write_atomically

__all__ = ["Archive", "distribution_files", "library_files", "program_files", "python_archive"]

PACKAGE = Path(__file__).resolve().parent.parent
SITE = "/opt/bpf2py"  # where Python looks for packages in the guest
# Of the standard library, what no program needs that watches a kernel.
_LEFT_OUT = {
    "test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "site-packages", "dist-packages", "pydoc_data",
    "distutils",
}  # fmt: skip


class Archive:
    """An archive of files, in the order they are added; directories are made as they are needed."""

    def __init__(self) -> None:
        self._entries: list[bytes] = []
        self._made: set[str] = {"/"}

    def add(self, path: str, content: bytes | Path, mode: int = 0o644) -> None:
        """A file at an absolute path of the guest. Raises GuestError for one that cannot be read."""
        place = PurePosixPath(path)
        if not place.is_absolute() or ".." in place.parts:
            raise GuestError(f"guest: {path} is not an absolute path")
        self.directory(str(place.parent))
        modified = 0
        if isinstance(content, Path):
            try:
                state, content = content.stat(), content.read_bytes()
            except OSError as error:
                raise GuestError(f"guest: {error.filename}: {error.strerror}") from None
            mode, modified = stat.S_IMODE(state.st_mode), int(state.st_mtime)
        self._entry(str(place), stat.S_IFREG | mode, content, modified)

    def directory(self, path: str) -> None:
        """A directory, with those above it."""
        if path not in self._made:
            self.directory(str(PurePosixPath(path).parent))
            self._made.add(path)
            self._entry(path, stat.S_IFDIR | 0o755, b"")

    def symlink(self, path: str, target: str) -> None:
        """A symbolic link."""
        self.directory(str(PurePosixPath(path).parent))
        self._entry(path, stat.S_IFLNK | 0o777, target.encode())

    def device(self, path: str, major: int, minor: int) -> None:
        """A character device."""
        self.directory(str(PurePosixPath(path).parent))
        self._entry(path, stat.S_IFCHR | 0o600, b"", device=(major, minor))

    def _entry(self, path: str, mode: int, content: bytes, modified: int = 0, device: tuple[int, int] = (0, 0)) -> None:
        name = os.fsencode(path.lstrip("/")) + b"\0"
        fields = (len(self._entries) + 1, mode, 0, 0, 1, modified, len(content), 0, 0, *device, len(name), 0)
        head = b"070701" + b"".join(b"%08X" % (field & 0xFFFFFFFF) for field in fields) + name
        self._entries.append(head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4))

    def data(self) -> bytes:
        """The archive; several after one another are unpacked one after another."""
        name = b"TRAILER!!!\0"
        end = b"070701" + b"".join(b"%08X" % n for n in (0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, len(name), 0)) + name
        whole = b"".join([*self._entries, end + bytes(-len(end) % 4)])
        return whole + bytes(-len(whole) % 512)


def _libraries(path: Path) -> list[Path]:
    """The shared libraries a program or library needs, the loader among them. Raises GuestError."""
    try:
        answer = subprocess.run(["ldd", path], capture_output=True, text=True)
    except OSError as error:
        raise GuestError(f"guest: ldd: {error.strerror}") from None
    found = []
    for line in answer.stdout.splitlines():
        if "not found" in line:
            raise GuestError(f"guest: {path} needs a library that is not here: {line.strip()}")
        words = [word for word in line.split() if word.startswith("/")]
        if words:
            found.append(Path(words[-1] if "=>" in line else words[0]))
    return found


def program_files(names: Iterable[str]) -> dict[str, Path]:
    """Programs of this machine with the libraries they need, by their paths in the guest. Raises GuestError."""
    files: dict[str, Path] = {}
    for name in names:
        path = shutil.which(name)
        if path is None:
            raise GuestError(f"guest: there is no program {name} on this machine")
        files |= {path: Path(path), **{str(library): library for library in _libraries(Path(path))}}
    return files


def library_files() -> dict[str, Path]:
    """This library, as it is here; compiled where it was compiled here, which spares the guest much time."""
    return {f"{SITE}/bpf2py/{path.relative_to(PACKAGE).as_posix()}": path for path in _walk(PACKAGE, set())}


def distribution_files(names: Iterable[str]) -> dict[str, Path]:
    """Installed distributions, such as ``"numpy"``, with those they need. Raises GuestError."""
    files: dict[str, Path] = {}
    seen: set[str] = set()
    waiting = list(names)
    libraries: set[Path] = set()
    while waiting:
        name = waiting.pop()
        if name.lower().replace("_", "-") in seen:
            continue
        seen.add(name.lower().replace("_", "-"))
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            raise GuestError(f"guest: {name} is not installed here: pip install {name}") from None
        for each in found.files or ():
            path = Path(str(found.locate_file(each)))
            if ".." in each.parts or "__pycache__" in each.parts or not path.is_file():
                continue
            files[f"{SITE}/{each.as_posix()}"] = path
            if path.suffix == ".so":
                libraries |= {p for p in _libraries(path) if not str(p).startswith(str(found.locate_file("")))}
        for requirement in found.requires or ():
            name_part, _, marker = requirement.partition(";")
            if "extra" not in marker:
                needed = "".join(c if c.isalnum() or c in "-_." else " " for c in name_part).split()[0]
                with_it = _installed(needed)
                waiting += [needed] if with_it else []
    return files | {str(library): library for library in libraries}


def _installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _walk(directory: Path, left_out: set[str]) -> Iterator[Path]:
    for place, directories, names in os.walk(directory):
        directories[:] = sorted(each for each in directories if each not in left_out and not each.startswith("config-"))
        for name in sorted(names):
            path = Path(place, name)
            if path.suffix == ".pyc" and not name.endswith(f".{sys.implementation.cache_tag}.pyc"):
                continue  # of another Python, or optimised
            if path.is_file():
                yield path


def interpreter() -> Path:
    """The Python that runs this, outside of any virtual environment."""
    return Path(os.path.realpath(sys.executable))


def python_archive() -> bytes:
    """An archive with this Python, its standard library, and the shared libraries they need; kept for the next time."""
    program, library = interpreter(), Path(sysconfig.get_path("stdlib"))
    key = hashlib.sha256(f"1 {program} {library} {sys.version} {program.stat().st_mtime_ns}".encode()).hexdigest()[:16]
    place = trusted_directory()
    kept = place / "guests" / f"python-{key}.cpio" if place is not None else None
    if kept is not None and kept.is_file():
        return kept.read_bytes()
    archive = Archive()
    needed = {program: None, **dict.fromkeys(_libraries(program))}
    for path in _walk(library, _LEFT_OUT):
        if path.suffix in (".py", ".pyc"):
            archive.add(str(path), path)
        elif path.suffix == ".so" and "_test" not in path.name and "_tkinter" not in path.name:
            archive.add(str(path), path)
            needed |= dict.fromkeys(_libraries(path))
    for path in needed:
        archive.add(str(path), path)
    data = archive.data()
    if kept is not None:
        write_atomically(kept, data)
    return data
