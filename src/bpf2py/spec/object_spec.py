"""`ObjectSpec`: everything an ELF object says, as data that may be changed and loaded many times."""

from __future__ import annotations

import os
from collections.abc import Sequence

from bpf2py._lazy import import_module, module
from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.btf.reader import Btf
from bpf2py.errors import ObjectError
from bpf2py.spec.layout import Layout
from bpf2py.spec.map_spec import MapSpec
from bpf2py.spec.program_spec import Function, ProgramSpec
from bpf2py.spec.read_object import Location, ObjectReader
from bpf2py.spec.variable_spec import ExternSpec, VariableSpec

if TYPE_CHECKING:
    import warnings

    from bpf2py.btf import registers
else:
    warnings = module("warnings")
    registers = module("bpf2py.btf.registers")


class ObjectSpec:
    """A BPF object as pure data: no system call was made for it, on any operating system.

    Attributes:
        name: the file's name without directories and suffixes; names the data sections' maps in the kernel.
        maps: `MapSpec` by name, data sections (``.rodata``, ``.data``, ``.bss``) included.
        programs: `ProgramSpec` by name.
        variables: `VariableSpec` by name.
        externs: what the object expects from the kernel (`__kconfig`, `__ksym`), by name.
        license: the license string the kernel is given.
        kernel_version: the ``version`` section (used by kprobe programs before Linux 5.0), 0 without one.
        types: the object's `Btf`, or None.

    Example:
        >>> spec = ObjectSpec.from_file("counter.bpf.o")       # doctest: +SKIP
        >>> spec.maps["counts"].max_entries = 10               # doctest: +SKIP
        >>> with bpf2py.load(spec) as obj: ...                 # doctest: +SKIP
    """

    __slots__ = (
        "externs",
        "functions",
        "kernel_version",
        "layout",
        "license",
        "maps",
        "name",
        "programs",
        "types",
        "variables",
    )

    maps: dict[str, MapSpec]
    programs: dict[str, ProgramSpec]
    variables: dict[str, VariableSpec]
    externs: dict[str, ExternSpec]
    functions: dict[Location, Function]
    layout: Layout
    license: str
    kernel_version: int
    name: str
    types: Btf | None

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview, name: str = "object") -> ObjectSpec:
        """Read an ELF object.

        Args:
            data: the whole file.
            name: what to call it in errors and data map names.

        Raises:
            ObjectError: not a little-endian 64-bit BPF object, or damaged.
        """
        return cls._read(bytes(data), name, name)

    @classmethod
    def _read(cls, data: bytes, name: str, where: str) -> ObjectSpec:
        """Read an object called `name`; errors speak of `where`."""
        try:
            reader = ObjectReader(data, where)
        except RecursionError:
            raise ObjectError(f"{where}: types are nested too deeply", section=".BTF") from None
        spec = cls.__new__(cls)
        spec.name = name
        spec.maps = reader.maps
        spec.programs = reader.programs
        spec.variables = reader.variables
        spec.externs = reader.externs
        spec.functions = reader.functions
        spec.license = reader.license
        spec.kernel_version = reader.kernel_version
        spec.types = reader.btf
        spec.layout = reader.layout()
        return spec

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, cflags: Sequence[str] = ()) -> ObjectSpec:
        """Read an ELF object file, or compile a ``.c`` or ``.py`` file (once, then it is cached) and read the result.

        Raises OSError when it cannot be read, ObjectError when it is not a usable object, CompileError for a wrong source.
        """
        if os.fspath(path).endswith((".c", ".py")):
            from bpf2py.toolchain.compiler import compile

            return cls._read(compile(path, cflags=tuple(cflags)), object_name(path), os.fspath(path))
        with open(path, "rb") as file:
            data = file.read()
        return cls._read(data, object_name(path), os.fspath(path))

    def copy(self) -> ObjectSpec:
        """An independent copy: changes to its maps, programs and variables leave this one alone."""
        new = ObjectSpec.__new__(ObjectSpec)
        for slot in ObjectSpec.__slots__:
            setattr(new, slot, getattr(self, slot))
        new.maps = {name: spec.copy() for name, spec in self.maps.items()}
        new.programs = {name: spec.copy() for name, spec in self.programs.items()}
        new.variables = {
            name: VariableSpec(name, new.maps[v.map.name], v.offset, v.size, v.type_id)
            for name, v in self.variables.items()
        }
        return new

    @property
    def arch(self) -> str | None:
        """Whose registers its programs on probes read: ``"x86"``, ``"arm64"``, or None where its types do not tell."""
        return registers.registers_of(self.types) if self.types is not None else None

    def load(self, *backend: object, **options: object) -> Any:
        """Former spelling of ``bpf2py.load(spec)``."""
        warnings.warn("spec.load() is called bpf2py.load(spec) now", DeprecationWarning, stacklevel=2)
        return import_module("bpf2py.loading").load(self, *backend, **options)

    def __repr__(self) -> str:
        return f"<ObjectSpec {self.name}: maps {list(self.maps)}, programs {list(self.programs)}>"


def object_name(path: str | os.PathLike[str]) -> str:
    """``/tmp/counter.bpf.o`` -> ``counter``."""
    name = os.path.basename(os.fspath(path))
    for suffix in (".o", ".c", ".py", ".bpf"):
        name = name.removesuffix(suffix)
    return name
