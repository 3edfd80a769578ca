"""`load()`, and what it takes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import ModuleType

from bpf2py._typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, cast
from bpf2py.backends import BackendChoice, resolve_backend
from bpf2py.btf.reader import Btf
from bpf2py.errors import ObjectError
from bpf2py.uapi.limits import names_limits

if TYPE_CHECKING:  # who opens a map of the machine needs a backend, but no objects
    from bpf2py.maps.base import Map
    from bpf2py.object import Object
    from bpf2py.seam.signing import Signing
    from bpf2py.spec.object_spec import ObjectSpec


# What `load()` takes: a source, an object file, its bytes, a spec, or several of them, which are linked.
Source: TypeAlias = "str | os.PathLike[str] | bytes | ModuleType | ObjectSpec | Sequence[Source]"


class ObjectOptions(TypedDict, total=False):
    """Options of `load` that say nothing of single maps, programs and variables, nor how values look."""

    pin_path: str
    maps: Mapping[str, Map[Any, Any]] | None
    kconfig: Mapping[str, int | str] | None
    btf: str | os.PathLike[str] | bytes | Btf | None
    token_path: str | os.PathLike[str] | None
    log_level: int
    exclusive: Mapping[str, str | bytes] | None
    signing: Signing | None


class LoadOptions(ObjectOptions, total=False):
    """Options of `load` that tools pass on."""

    chars: str
    variables: Mapping[str, Any] | None
    max_entries: Mapping[str, int] | None
    autoload: Mapping[str, bool] | None


def read_spec(source: Source, cflags: Sequence[str] = ()) -> ObjectSpec:
    """The spec of a .c or .py file (compiled, cached), a module in Python, an object file, its bytes, or a spec (copied).

    Raises CompileError, ObjectError or OSError.
    """
    from bpf2py.spec.object_spec import ObjectSpec, object_name

    if isinstance(source, ObjectSpec):
        return source.copy()
    if isinstance(source, bytes | bytearray | memoryview):
        return ObjectSpec.from_bytes(source)
    if isinstance(source, ModuleType):
        if not (source.__file__ or "").endswith(".py"):
            raise ObjectError(f"module {source.__name__} has no .py file that could be read as a program")
        return read_spec(source.__file__ or "", cflags)
    if isinstance(source, list | tuple):
        if len(source) == 1:
            return read_spec(source[0], cflags)
        if not source:
            raise ObjectError("an empty list was given: name at least one source or object")
        from bpf2py.linker.static import link_objects

        return link_objects([read_spec(item, cflags) for item in source])
    path = os.fspath(cast("str | os.PathLike[str]", source))
    if path.endswith((".c", ".py")):
        from bpf2py.toolchain.compiler import compile

        if not os.path.exists(path):
            raise FileNotFoundError(2, "no such source file", path)
        return ObjectSpec.from_bytes(compile(path, cflags=tuple(cflags)), object_name(path))
    if "\n" in path:
        raise ObjectError("C source text is compiled by bpf2py.compile(); load() takes a path or an object's bytes")
    return ObjectSpec.from_file(path)


def read_btf(source: str | os.PathLike[str] | bytes | Btf | None) -> Btf | None:
    """The BTF of a file (raw or ELF), of its bytes, or as it is."""
    if source is None or isinstance(source, Btf):
        return source
    if isinstance(source, bytes):
        return Btf.from_elf_or_raw(source)
    with open(source, "rb") as file:
        return Btf.from_elf_or_raw(file.read(), name=os.fspath(source))


def override(
    spec: ObjectSpec,
    variables: Mapping[str, Any] | None,
    max_entries: Mapping[str, int] | None,
    autoload: Mapping[str, bool] | None,
    exclusive: Mapping[str, str | bytes] | None = None,
) -> None:
    """Change a spec as `load` says. Raises KeyError for names it does not have."""
    from bpf2py.object import Named

    for name, entries in (max_entries or {}).items():
        Named("map", spec.maps)[name].max_entries = entries
    for name, owner in (exclusive or {}).items():
        Named("map", spec.maps)[name].exclusive = owner
    for name, value in (variables or {}).items():
        Named("variable", spec.variables)[name].value = value
    for name, wanted in (autoload or {}).items():
        Named("program", spec.programs)[name].autoload = wanted


@names_limits
def load(
    source: Source,
    backend: BackendChoice = None,
    *,
    cflags: Sequence[str] = (),
    chars: str = "str",
    pin_path: str = "/sys/fs/bpf",
    maps: Mapping[str, Map[Any, Any]] | None = None,
    kconfig: Mapping[str, int | str] | None = None,
    btf: str | os.PathLike[str] | bytes | Btf | None = None,
    token_path: str | os.PathLike[str] | None = None,
    variables: Mapping[str, Any] | None = None,
    max_entries: Mapping[str, int] | None = None,
    autoload: Mapping[str, bool] | None = None,
    exclusive: Mapping[str, str | bytes] | None = None,
    log_level: int = 0,
    signing: Signing | None = None,
) -> Object:
    """Create the maps and load the programs of an object; nothing is attached yet.

    Args:
        source: a ``.c`` file or a program in Python (`bpf2py.lang`: a ``.py`` file, or the module), compiled once, then
            cached; an object file, its bytes, or an `ObjectSpec`; or a list of such, which are linked into one (``extern``
            functions, variables and maps of one are defined by another).
        backend: ``"kernel"`` (also None, unless the environment variable BPF2PY_BACKEND says otherwise), ``"engine"``,
            ``"auto"`` (the kernel where bpf() is permitted, else the engine), or a `bpf2py.engine.Engine`.
        cflags: extra compiler flags.
        chars: decode char arrays as ``"str"`` or ``"bytes"``.
        pin_path: directory of the BPF file system for maps that ask for pinning by name.
        maps: maps to use in place of the object's own, by name (checked for compatibility).
        btf: types to resolve CO-RE relocations against, in place of the running kernel's: a raw BTF file, an ELF file with
            a .BTF section, their bytes, or a `Btf`. For kernels built without BTF.
        token_path: mount point of a BPF file system that delegates rights to this user namespace (Linux 6.9); by default
            what the environment variable LIBBPF_BPF_TOKEN_PATH says, an empty string for none.
        kconfig: values of ``extern ... __kconfig`` variables to take instead of the kernel's.
        variables: first values of global variables, constants included, by name.
        max_entries: sizes of maps in place of the source's, by name.
        autoload: False for programs not to load, True for those whose section name begins with ``?``, by name.
        exclusive: maps that one program alone may use, by name: the program's name, or the hash of its instructions
            (`Program.digest`; Linux 6.18). The kernel refuses to load any other program with them.
        log_level: what the verifier writes to `Program.verifier_log`: 1 the steps of the path it ends with, 2 all steps and
            states, 4 statistics, or their sum (include/linux/bpf_verifier.h: BPF_LOG_LEVEL1, BPF_LOG_LEVEL2, BPF_LOG_STATS).
        signing: how programs are signed, and the keyring whose keys the kernel checks them with (Linux 6.18; see
            `bpf2py.signing`).

    Returns:
        The `Object`, a context manager that closes everything.

    Raises:
        CompileError, ObjectError: the source or object is wrong.
        PermissionDenied: the process may not; the message says what is missing.
        MapCreateError, VerifierError: the kernel refused a map or a program.
        KeyError: there is no such map, program or variable.
        EncodeError: a variable's type does not take the value.

    Example:
        >>> with bpf2py.load("counter.bpf.c", variables={"sampling": 7}) as obj:     # doctest: +SKIP
        ...     obj.attach()
        ...     print(dict(obj.maps["counts"].items()))
    """
    from bpf2py.object import Object

    found = resolve_backend(backend)
    spec = read_spec(source, cflags)
    override(spec, variables, max_entries, autoload, exclusive)
    return Object(
        spec,
        found,
        chars=chars,
        pin_path=pin_path,
        maps=maps,
        kconfig=kconfig,
        btf=read_btf(btf),
        token_path=token_path,
        log_level=log_level,
        signing=signing,
    )
