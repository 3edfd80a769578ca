"""One module and its object, from a source to the bytes of the files: what `bpf2py gen` and the build hook share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bpf2py.codegen.module import generate
from bpf2py.codegen.runtime import embed
from bpf2py.codegen.strip import strip
from bpf2py.errors import BpfError
from bpf2py.spec.object_spec import ObjectSpec, object_name
from bpf2py.toolchain.compiler import compile_with_log
from bpf2py.toolchain.headers import reach, search_path

# Of the files' names, by target; as bpf2go has it.
SUFFIXES = {"bpfel": "_bpfel", "bpf": "_bpf", "native": "_bpfel" if sys.byteorder == "little" else "_bpfeb"}
# Targets that say whose registers PT_REGS_PARM1() and its like mean.
ARCHES = {"amd64": "x86", "x86": "x86", "arm64": "arm64"}
SUFFIXES |= {target: f"_{arch}_bpfel" for target, arch in ARCHES.items()}
if sys.byteorder == "big":
    del SUFFIXES["native"], SUFFIXES["bpf"]


@dataclass(frozen=True)
class Request:
    """What to generate.

    Attributes:
        ident: names the module, unless `output_stem` does.
        source: a .c or .py file, or a compiled object.
        output_dir: where the files belong.
        output_stem: begin of the file names in place of `ident`.
        target: ``bpfel``, ``bpf``, ``native``, or an architecture: ``amd64`` (also ``x86``), ``arm64``.
        cflags: extra compiler flags.
        cc: the compiler, a command or ``ziglang``; None: what BPF2PY_CC says, or what is found.
        strip: leave debug information out of the object.
        embed: put the object into the module.
        types: names of types to write besides those of maps and variables.
        global_types: whether to write the types of maps and variables.
        makebase: also write dependencies for make, with paths relative to this directory.
    """

    ident: str
    source: Path
    output_dir: Path = Path(".")
    output_stem: str | None = None
    target: str = "bpfel"
    cflags: tuple[str, ...] = ()
    cc: str | None = None
    strip: bool = True
    embed: bool = False
    types: tuple[str, ...] = ()
    global_types: bool = True
    makebase: Path | None = None

    @property
    def stem(self) -> str:
        """The files' name without suffix. Raises BpfError for an `ident` or a `target` that cannot be."""
        if not self.ident.isidentifier():
            raise BpfError(f"{self.ident!r} is not a Python identifier; the module is named after it")
        if self.target not in SUFFIXES:
            raise BpfError(
                f"target {self.target}: objects are little-endian, as maps are read where they are made; "
                f"choose {', '.join(SUFFIXES)}"
            )
        return f"{self.output_stem or self.ident}{SUFFIXES[self.target]}"

    @property
    def outputs(self) -> list[Path]:
        """The files `produce` gives the contents of."""
        stem = self.stem
        suffixes = [".py", *([] if self.embed else [".o"]), *([] if self.makebase is None else [".d"])]
        return [self.output_dir / f"{stem}{suffix}" for suffix in suffixes]


def produce(request: Request) -> dict[Path, bytes]:
    """The contents of the files, by path; nothing is written.

    Raises:
        BpfError: a name is wrong, the source does not compile, the object is none or has no types.
        OSError: the source cannot be read.
    """
    source, stem, files = request.source, request.stem, request.outputs
    arch = ARCHES.get(request.target)
    flags = (f"-ffile-prefix-map={source.resolve().parent}=.", *request.cflags)
    if source.suffix in (".c", ".py"):
        if not source.exists():
            raise FileNotFoundError(2, "no such source file", str(source))
        with _compiler(request.cc):
            data = compile_with_log(source, cflags=flags, arch=arch).data
    else:
        data = source.read_bytes()
    if request.strip:
        data = strip(data)
    spec = ObjectSpec.from_bytes(data, object_name(source))
    if arch is not None and spec.arch not in (None, arch):
        raise BpfError(f"{source}: the object reads the registers of {spec.arch}, not those of the target {arch}")
    text = generate(
        request.ident,
        spec,
        spec.name if request.embed else f"{stem}.o",
        source.name,
        embed(data) if request.embed else None,
        request.types,
        global_types=request.global_types,
    )
    contents = [text.encode(), *([] if request.embed else [data])]
    if request.makebase is not None:
        contents.append(depfile(files[0], source, flags, request.makebase))
    return dict(zip(files, contents, strict=True))


def stale(files: Mapping[Path, bytes]) -> list[Path]:
    """The files that are missing or have other contents."""
    return [path for path, content in files.items() if not path.exists() or path.read_bytes() != content]


def write(files: Mapping[Path, bytes], only: Iterable[Path] | None = None) -> None:
    """Write the files, or those in `only`; directories are made."""
    for path in files if only is None else only:
        os.makedirs(path.parent, exist_ok=True)
        path.write_bytes(files[path])


def depfile(made: Path, source: Path, flags: Sequence[str], base: Path) -> bytes:
    """A rule for make: the generated module is out of date when one of the user's files changes."""

    def relative(path: str | Path) -> str:
        return os.path.relpath(path, base).replace("$", "$$").replace("#", "\\#").replace(" ", "\\ ")

    names = [relative(source)]
    if source.suffix == ".c":
        home = str(source.resolve().parent)
        names += map(relative, reach(source.read_bytes(), home, search_path(flags)).files)
    return "".join([f"{relative(made)}:", *(f" \\\n {name}" for name in names), "\n"]).encode()


@contextmanager
def _compiler(cc: str | None) -> Iterator[None]:
    """BPF2PY_CC is how a compiler is named; it is put back, because a build generates several modules."""
    if not cc:
        yield
        return
    before = os.environ.get("BPF2PY_CC")
    os.environ["BPF2PY_CC"] = cc
    try:
        yield
    finally:
        if before is None:
            del os.environ["BPF2PY_CC"]
        else:
            os.environ["BPF2PY_CC"] = before
