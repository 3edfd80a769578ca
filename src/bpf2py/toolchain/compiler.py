"""Compiling eBPF C to an object file, through the cache.

The compiler gets the header directories in this order: the source's own, those of the caller's `cflags`, bpf2py's
(``<bpf/bpf_helpers.h>`` and its kin), a generated ``vmlinux.h``, the kernel's UAPI headers, a C library's.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bpf2py.errors import CompileError, CompilerNotFound, NotSupported
from bpf2py.toolchain.cache import Cache, Entry, digest, python_path
from bpf2py.toolchain.find import Compiler, candidates, examine, find_compiler, not_found, ziglang_directory
from bpf2py.toolchain.headers import include_directory, reach, search_path
from bpf2py.toolchain.target_arch import KNOWN, host_arch, target_arch
from bpf2py.user_cache import read_file, write_atomically

__all__ = ["Compiled", "Compiler", "compile", "compile_with_log", "find_compiler"]

_REVISION = "1"  # part of every cache key: raise it when the order of the header directories changes
# The last: `struct tag;` as a member, which the kernel's own sources use since 6.19, and so do headers others made of its types.
_COMMON = ("-O2", "-g", "-mcpu=v3", "-fno-stack-protector", "-Wall", "-fms-extensions")
# Types of the kernel, and of its networking helpers, warn in every program that uses them.
_QUIET = (
    "-Wno-missing-declarations", "-Wno-compare-distinct-pointer-types", "-Wno-microsoft-anon-tag", "-Wno-unknown-warning-option",
)  # fmt: skip
_TARGET = {
    "clang": ("-target", "bpfel"),
    # Without both -fhosted and -fbuiltin memcpy and memset would stay calls to functions that BPF does not have.
    # The last two: zig emits an .eh_frame and checks of its own where nobody tells it not to.
    "zig": ("-target", "bpfel-freestanding", "-fhosted", "-fbuiltin", "-fno-unwind-tables", "-fno-sanitize=all"),
}
# Sources in other languages than C: what translates them, imported when the first one is met.
_FRONT_ENDS = {".py": "bpf2py.lang.translate"}
_MULTIARCH = {"x86": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
_ZIG_ARCH = {"x86": ("x86-linux-any", "x86_64-linux-musl"), "arm64": ("aarch64-linux-any", "aarch64-linux-musl")}


class Compiled(NamedTuple):
    """An object file and the warnings of the compile that made it (an empty string when there were none)."""

    data: bytes
    warnings: str


class _Source(NamedTuple):
    text: bytes
    path: str | None  # as the caller wrote it; None for a source given as text
    directory: str


class _Inputs(NamedTuple):
    """What a source depends on besides what the compiler tells."""

    files: Sequence[str] = ()
    absent: Sequence[str] = ()
    search: str | None = None  # Python's search path, where it was asked


class _Job(NamedTuple):
    source: _Source
    cflags: tuple[str, ...]
    arch: str  # whose system headers are used
    vmlinux: bytes | None
    defines: tuple[str, ...]


def compile(
    source: str | os.PathLike[str],
    *,
    cflags: Sequence[str] = (),
    cache: bool = True,
    vmlinux: bytes | os.PathLike[str] | None = None,
    compiler: Compiler | None = None,
    arch: str | None = None,
) -> bytes:
    """Compile eBPF C, or a program in Python (`bpf2py.lang`), and return the bytes of the object file.

    Args:
        source: a path (of a ``.py`` file for Python), or C text, which is recognised by its having more than one line.
            Quoted includes of a text are looked for in the current directory.
        cflags: further flags; they come behind bpf2py's own (``-O2 -g -mcpu=v3 -Wall``) and so win over them.
        cache: False to compile in any case, and to leave no trace.
        vmlinux: the text of a ``vmlinux.h``, or the path of one, to use instead of one made from the running kernel's
            BTF. A ``vmlinux.h`` beside the source wins over both.
        compiler: what to compile with; default: what `find_compiler` finds.
        arch: ``"x86"`` or ``"arm64"``: whose registers the macros of bpf_tracing.h mean; default: what ``-D__TARGET_ARCH_...``
            among the flags or a ``#define`` in the source says, else this machine's.

    Raises:
        SourceError: a program in Python is not what the language allows; the error names line and column.
        CompileError: the compiler refused the source, and its own words are the message; or two architectures are asked for.
        CompilerNotFound: there is no compiler.
        NotSupported: ``vmlinux.h`` is wanted and the kernel has no BTF to make it from.
        FileNotFoundError: there is no such source.
    """
    return compile_with_log(source, cflags=cflags, cache=cache, vmlinux=vmlinux, compiler=compiler, arch=arch).data


def compile_with_log(
    source: str | os.PathLike[str],
    *,
    cflags: Sequence[str] = (),
    cache: bool = True,
    vmlinux: bytes | os.PathLike[str] | None = None,
    compiler: Compiler | None = None,
    arch: str | None = None,
) -> Compiled:
    """`compile`, and what the compiler warned of; a cached object remembers its warnings."""
    if vmlinux is not None and not isinstance(vmlinux, bytes):
        vmlinux = Path(vmlinux).read_bytes()
    if arch is not None and arch not in KNOWN:
        raise ValueError(f"arch {arch!r}: known are {', '.join(KNOWN)}")
    text = _read(source)
    target, undefined = target_arch(cflags, text.text, arch)
    defines = (f"-D__TARGET_ARCH_{target}",) if undefined else ()
    job = _Job(text, tuple(cflags), target if target in KNOWN else host_arch(), vmlinux, defines)
    store = Cache() if cache else None
    reasons = []
    for candidate in [compiler] if compiler is not None else candidates():
        key = _key(job, candidate)
        entry = store.get(key, kernel=_kernel) if store is not None else None
        if entry is not None:
            return Compiled(*entry)
        fit, reason = examine(candidate)
        if fit is not None:
            front = _front_end(job.source)
            return _compile(job, fit, store, key) if front is None else _translated(job, fit, store, key, front)
        reasons.append(reason)
    raise not_found(reasons)


def _read(source: str | os.PathLike[str]) -> _Source:
    if isinstance(source, str) and "\n" in source:
        return _Source(source.encode(), None, os.getcwd())
    path = os.fspath(source)
    with open(path, "rb") as file:
        text = file.read()
    return _Source(text, path, os.path.dirname(os.path.abspath(path)))


def _key(job: _Job, compiler: Compiler) -> str:
    path = job.source.path
    front = _front_end(job.source)
    parts: list[str | bytes] = [_REVISION, job.source.text, job.source.directory, path if path is not None else "\n"]
    parts += [
        *_TARGET[compiler.kind],
        *_COMMON,
        *_QUIET,
        job.arch,
        *job.defines,
        compiler.identity,
        str(include_directory()),
        str(len(job.cflags)),
        *job.cflags,
    ]
    parts += [os.environ.get(name, "") for name in ("CPATH", "C_INCLUDE_PATH")]
    if (path is not None and not os.path.isabs(path)) or any(not os.path.isabs(d) for d in search_path(job.cflags)):
        parts.append(os.getcwd())
    if job.vmlinux is not None:
        parts += ["vmlinux", job.vmlinux]
    elif b"vmlinux.h" in job.source.text or front is not None:
        parts.append(_kernel() or "no BTF")
    if front is not None:
        parts += [front, _written(front)]
    return digest(parts)


def _front_end(source: _Source) -> str | None:
    """The module that makes C of a source; None for C."""
    return _FRONT_ENDS.get(os.path.splitext(source.path)[1]) if source.path is not None else None


@functools.cache
def _written(front: str) -> str:
    """Tells versions of a front end apart, without importing it."""
    room = os.path.join(os.path.dirname(os.path.dirname(__file__)), front.split(".")[1])
    with os.scandir(room) as entries:  # pathlib's glob takes longer than the rest of a cached load
        return " ".join(
            sorted(f"{e.name} {e.stat().st_mtime_ns} {e.stat().st_size}" for e in entries if e.name.endswith(".py"))
        )


def _translated(job: _Job, compiler: Compiler, store: Cache | None, key: str, front: str) -> Compiled:
    """Make C of the source and compile that."""
    front_end = importlib.import_module(front)
    path = job.source.path or ""
    made = front_end.translated(job.source.text, path)
    flags = (*front_end.CFLAGS, *job.cflags)
    job = job._replace(source=_Source(made.text.encode(), None, job.source.directory), cflags=flags)
    inputs = _Inputs(made.files, made.absent, python_path() if made.searched else None)
    try:
        return _compile(job, compiler, store, key, front_end.finish, inputs)
    except CompilerNotFound:
        raise
    except CompileError as error:
        raise front_end.explained(error, path) from None


def _kernel() -> str | None:
    from bpf2py.toolchain.vmlinux import kernel_identity

    try:
        return kernel_identity()
    except NotSupported:
        return None


def _system_flags(compiler: Compiler, arch: str) -> list[str]:
    """Where the kernel's UAPI headers and a C library's are."""
    compat = ["-idirafter", str(include_directory() / "compat")]
    multiarch = f"/usr/include/{_MULTIARCH[arch]}"
    wheel = ziglang_directory()
    if compiler.kind == "clang" and os.path.exists("/usr/include/linux/bpf.h"):
        if os.path.isdir(multiarch):
            return ["-isystem", multiarch, *compat]
        if wheel is None or os.path.isdir("/usr/include/asm"):
            return compat
    if wheel is None:
        return compat
    includes = wheel / "lib" / "libc" / "include"
    kernel, libc = _ZIG_ARCH[arch]
    # The generic directory first: x86's asm/swab.h holds assembly that is not BPF's.
    system = [f"-isystem{includes / name}" for name in ("any-linux-any", kernel)]
    return system + [f"-idirafter{includes / name}" for name in (libc, "generic-musl")]


def _compile(
    job: _Job,
    compiler: Compiler,
    store: Cache | None,
    key: str,
    finish: Callable[[bytes], bytes] = bytes,
    more: _Inputs = _Inputs(),  # noqa: B008 - nothing changes it
) -> Compiled:
    import tempfile

    directory = job.source.directory
    # A quoted name is looked for beside a file anyway; -I finds it in angle brackets, too.
    own = [f"-I{directory}" if job.source.path is not None else f"-iquote{directory}"]
    with tempfile.TemporaryDirectory(prefix="bpf2py-") as name:
        work = Path(name)
        path = job.source.path if job.source.path is not None else _write_text(job.source.text, store, work)
        for vmlinux in _vmlinux_flags(job, store, work):
            flags = [*own, *job.cflags, f"-I{include_directory()}", *vmlinux.flags]
            flags += _system_flags(compiler, job.arch)
            result = _run(compiler, [*job.defines, *flags], path, work)
            if result.returncode == 0 or vmlinux.last:
                break
        if result.returncode != 0:
            raise CompileError(
                (result.stderr.strip("\n") + _hint(job, result.stderr))
                or f"{compiler.argv[0]} ended with status {result.returncode}, without a word",
                stderr=result.stderr,
                argv=result.argv,
                returncode=result.returncode,
            )
        compiled = Compiled(finish((work / "out.o").read_bytes()), result.stderr)
        if store is not None:
            files = _dependencies((work / "out.d").read_bytes())
            order = [directory, *search_path(flags), *(["/usr/include"] if compiler.kind == "clang" else [])]
            made = (str(work) + os.sep, *([str(store.root) + os.sep] if store.root is not None else []))
            inputs = [file for file in files if not file.startswith(made)]
            store.put(
                key,
                Entry(*compiled),
                files=[*inputs, *more.files],
                absent=[*_shadows(files, order), *more.absent],
                kernel=vmlinux.kernel,
                search=more.search,
            )
        return compiled


_REDEFINED = re.compile(
    r"(?:redefinition of|conflicting types for|typedef redefinition with different types)[^\n']*'(\w+)'"
)
_NOT_THERE = re.compile(r"unknown type name|no member named|undeclared identifier|incomplete (?:definition of )?type")


def _hint(job: _Job, stderr: str) -> str:
    """What may have caused an error that speaks of the kernel's types; empty when nothing is known."""
    clash = _REDEFINED.search(stderr)
    if clash is not None and "vmlinux.h" in stderr:
        return (
            f"\nhint: the kernel has a type or function {clash[1]!r} too, and vmlinux.h declares it: give yours another name, or "
            "leave its definition to vmlinux.h"
        )
    directories = [job.source.directory, *search_path(job.cflags)]
    stray = next((path for d in directories if os.path.isfile(path := os.path.join(d, "vmlinux.h"))), None)
    if stray is not None and job.vmlinux is None and _NOT_THERE.search(stderr) and b"vmlinux.h" in job.source.text:
        return (
            f"\nhint: {stray} is included, not one of this kernel: move it away to have a vmlinux.h made of the running "
            "kernel's types"
        )
    return ""


def _write_text(text: bytes, store: Cache | None, work: Path) -> str:
    """Give a source without a file one: a lasting one, so that messages and line information name what can be read."""
    if store is not None and store.root is not None:
        lasting = store.root / "sources" / f"{digest([text])}.bpf.c"
        if read_file(lasting, own=True) == text or write_atomically(lasting, text):
            return str(lasting)
    path = work / "source.bpf.c"
    path.write_bytes(text)
    return str(path)


class _Vmlinux(NamedTuple):
    flags: list[str]
    kernel: str | None  # whose types they are, when the running kernel's
    last: bool


def _vmlinux_flags(job: _Job, store: Cache | None, work: Path) -> Iterator[_Vmlinux]:
    """The ways to give the source a vmlinux.h, the cheapest first; just one when it does not want one."""
    if job.vmlinux is not None:
        (work / "vmlinux.h").write_bytes(job.vmlinux)
        yield _Vmlinux([f"-I{work}"], None, True)
        return
    reached = reach(job.source.text, job.source.directory, [job.source.directory, *search_path(job.cflags)])
    if "vmlinux.h" not in reached.missing:
        yield _Vmlinux([], None, True)
        return
    from bpf2py.toolchain import vmlinux

    kernel = vmlinux.kernel_identity()
    trimmed = vmlinux.write_header(work, vmlinux.reached_roots(reached.identifiers), kfuncs=reached.kfuncs)
    yield _Vmlinux([f"-I{trimmed}"], kernel, False)
    # The source may name a type by pasting tokens, or reach it through a function of another header.
    lasting = store.root / "vmlinux" if store is not None and store.root is not None else work
    whole = vmlinux.write_header(lasting, kfuncs=reached.kfuncs, fallback=work)
    yield _Vmlinux([f"-I{whole}"], kernel, True)


class _Result(NamedTuple):
    argv: tuple[str, ...]
    returncode: int
    stderr: str


def _run(compiler: Compiler, flags: Sequence[str], path: str, work: Path) -> _Result:
    import subprocess

    # A path that begins with a dash would be taken for a flag, one that begins with @ for a file of flags.
    path = os.path.join(".", path) if path.startswith(("-", "@")) else path
    argv = [*compiler.argv, *_TARGET[compiler.kind], *_COMMON, *_QUIET, *flags]
    # The directory made for this compile must not show in the object.
    argv += [
        f"-fdebug-prefix-map={work}=.",
        "-x",
        "c",
        "-c",
        path,
        "-o",
        str(work / "out.o"),
        "-MD",
        "-MF",
        str(work / "out.d"),
    ]
    environment = None
    if compiler.kind == "zig":  # it wants a writable cache of its own, and has nothing to keep there
        environment = {
            **os.environ,
            "ZIG_LOCAL_CACHE_DIR": str(work / "zig"),
            "ZIG_GLOBAL_CACHE_DIR": str(work / "zig"),
        }
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, env=environment)
    except OSError as error:
        raise CompilerNotFound(f"{compiler.argv[0]} does not start: {error.strerror}", argv=tuple(argv)) from None
    return _Result(tuple(argv), done.returncode, done.stderr.decode("utf-8", "replace"))


def _dependencies(makefile: bytes) -> list[str]:
    """The files a compiler's depfile names, as absolute paths; the source itself comes first."""
    text = makefile.decode("utf-8", "surrogateescape").replace("\\\r\n", " ").replace("\\\n", " ")
    _, _, names = text.partition(": ")
    # A blank, a hash or a backslash in a name is escaped by a backslash, a dollar by another one.
    items = re.findall(r"(?:\\.|[^\s\\]|\\)+", names)
    return [os.path.abspath(re.sub(r"\\([\s#\\])", r"\1", item).replace("$$", "$")) for item in items]


def _shadows(files: Sequence[str], order: Sequence[str]) -> list[str]:
    """Places where a file, were it there, would be found before one of `files` on the search path `order`."""
    directories = [os.path.abspath(directory) for directory in order]
    places: set[str] = set()
    for file in files:
        for position, directory in enumerate(directories):
            if file.startswith(directory + os.sep):
                relative = file[len(directory) + 1 :]
                places.update(os.path.join(earlier, relative) for earlier in directories[:position])
    return sorted(place for place in places if not os.path.exists(place))
