"""`Loader`: from a spec to maps, programs and the contents of maps; what `Object` then holds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from mmap import PAGESIZE

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING, Any, cast
from bpf2py.btf.codec import CodecOptions
from bpf2py.btf.reader import Btf
from bpf2py.errors import MapCreateError, MapIncompatible, ObjectError
from bpf2py.linker.link import Linker
from bpf2py.maps.base import AnyMap, Map, wrap
from bpf2py.programs import Links, Program
from bpf2py.spec.map_spec import MapSpec, Pinning
from bpf2py.spec.object_spec import ObjectSpec
from bpf2py.spec.program_spec import ProgramSpec
from bpf2py.spec.variable_spec import VariableSpec
from bpf2py.uapi.map_types import MapFlags, MapType, type_name
from bpf2py.uapi.program_types import ProgramType
from bpf2py.variables import ArenaSection, DataSection

if TYPE_CHECKING:
    import warnings

    from bpf2py.linker import core
    from bpf2py.linker import kconfig as kconfig_section
    from bpf2py.seam.protocol import Backend, Loading, MapHandle
    from bpf2py.seam.signing import Signing
    from bpf2py.uapi import pins
else:
    pins = module("bpf2py.uapi.pins")
    warnings = module("warnings")
    core = module("bpf2py.linker.core")
    kconfig_section = module("bpf2py.linker.kconfig")

__all__ = ["Loader", "check_compatible", "data_map_name"]


class Loader:
    """Makes what a spec says, once.

    Attributes:
        maps, programs: by name.
        sections: memory of the data sections, by map.
        links: those the programs will make.
        warnings: what went less than well.
    """

    def __init__(
        self,
        spec: ObjectSpec,
        backend: Backend,
        options: CodecOptions,
        pin_path: str,
        btf: Btf | None,
        token_path: str | os.PathLike[str] | None,
        log_level: int = 0,
        signing: Signing | None = None,
    ) -> None:
        self.spec = spec
        self.backend = backend
        self.maps: dict[str, AnyMap] = {}
        self.programs: dict[str, Program] = {}
        self.sections: dict[str, DataSection] = {}
        self.links = Links()
        self.warnings: list[str] = []
        self._options = options
        self._pin_path = pin_path
        self._btf = btf
        self._token_path = token_path
        self._log_level = log_level
        self._signing = signing
        self._digests: dict[str, bytes] = {}  # of the programs that have maps of their own, by map
        self._pinned: list[str] = []  # paths maps were pinned to

    def unpin(self) -> None:
        """Remove the pins this load made; those others made before stay: their maps were opened, not made."""
        for path in self._pinned:
            try:
                os.unlink(path)
            except OSError:
                pass

    def _add_kconfig(self, overrides: Mapping[str, int | str]) -> None:
        """Make the map of the ``extern ... __kconfig`` variables."""
        spec = self.spec
        externs = kconfig_section.kconfig_externs(spec) if spec.externs else []
        if not externs or spec.types is None:
            return
        lookup, special = self.backend.kconfig()
        made = kconfig_section.build(spec, lookup, special, overrides)
        made.map.btf = spec.types
        spec.maps[made.map.name] = made.map
        for extern in externs:
            size = spec.types.size_of(extern.type_id)
            variable = VariableSpec(extern.name, made.map, made.offsets[extern.name], size, extern.type_id)
            spec.variables[extern.name] = variable

    def load(self, given: Mapping[str, Map[Any, Any]], kconfig: Mapping[str, int | str]) -> None:
        """Make everything; what was made when this raises is for the caller to close."""
        self._add_kconfig(kconfig)
        spec = self.spec
        for name in given:
            if name not in spec.maps:
                raise MapIncompatible(f"map {name}: the object has no such map: {', '.join(spec.maps)}")
        wanted = [program for program in spec.programs.values() if program.autoload]
        loading = self.backend.prepare(spec, self._token_path, self._log_level, self._signing)
        try:
            if loading.warning:
                self.warnings.append(loading.warning)
            self._check_registers(wanted)
            self._find_owners(loading)
            for map_spec in spec.maps.values():
                if map_spec.struct_ops is not None:
                    self.maps[map_spec.name] = self._make_struct_ops(map_spec, loading)
                    continue
                self.maps[map_spec.name] = self._make_map(map_spec, loading, given.get(map_spec.name))
            for map_spec in spec.maps.values():
                self._fill_maps(map_spec)
            handles: dict[str, MapHandle] = {name: m._handle for name, m in self.maps.items()}
            linker = Linker(spec, self._core_target())
            # One after the other: the kernel may verify the first while the next are linked.
            linked = ((program, linker.link(program)) for program in wanted)
            loaded = loading.load_programs(linked, len(wanted), handles)
            for program, handle in zip(wanted, loaded, strict=True):
                self.programs[program.name] = Program(handle, program, self.links)
            for map_spec in spec.maps.values():
                self._fill_programs(map_spec)
            if loading.warning:  # an error has it in its text
                warnings.warn(f"object {spec.name}: {loading.warning}", RuntimeWarning, stacklevel=5)
        finally:
            loading.close()

    def _find_owners(self, loading: Loading) -> None:
        """The hashes of the programs that have maps for themselves, which must be known before the maps are made."""
        owned = [(name, spec.exclusive) for name, spec in self.spec.maps.items() if isinstance(spec.exclusive, str)]
        linker = Linker(self.spec, self._core_target()) if owned else None
        for name, owner in owned:
            program = self.spec.programs.get(owner)
            if program is None or linker is None:
                raise MapCreateError(
                    f"map {name}: create: exclusive is {owner!r}, and the object has no such program: "
                    f"{', '.join(self.spec.programs)}"
                )
            self._digests[name] = loading.digest(program, linker.link(program))

    def _make_struct_ops(self, spec: MapSpec, loading: Loading) -> AnyMap:
        from bpf2py.maps.struct_ops import StructOpsMap

        made = StructOpsMap.bound(loading.create_struct_ops(spec, self.spec.programs), spec)
        made.programs, made.links = self.programs, self.links
        return cast("AnyMap", made)

    def _check_registers(self, wanted: list[ProgramSpec]) -> None:
        """Warn of programs that would take other registers for their arguments."""
        probes = [program.name for program in wanted if program.type in (ProgramType.KPROBE, ProgramType.PERF_EVENT)]
        built, here = self.spec.arch if probes else None, self.backend.arch
        if built is None or here is None or built == here:
            return
        text = (
            f"it was compiled for {built}, and this machine is {here}: {', '.join(probes)} would read the wrong registers; "
            f"compile with -D__TARGET_ARCH_{here}"
        )
        self.warnings.append(text)
        warnings.warn(f"object {self.spec.name}: {text}", RuntimeWarning, stacklevel=5)

    def _core_target(self) -> core.CoreTarget | None:
        if self._btf is not None:
            return core.CoreTarget(self._btf)
        return self.backend.core_target(self.spec) if _needs_target(self.spec) else None

    # -- maps ----------------------------------------------------------------------------------------------------

    def _make_map(self, spec: MapSpec, loading: Loading, given: Map[Any, Any] | None) -> AnyMap:
        for each in (spec, spec.inner):
            if each is not None:
                self._complete(each)
        if given is not None:
            check_compatible(spec, given._handle)
            return wrap(given._handle.duplicate(), spec, self._options)
        path = pins.pin_by_name(self._pin_path, spec.name) if spec.pinning == Pinning.BY_NAME else None
        if path is not None and os.path.lexists(path):
            existing = self.backend.open_map_pin(path)
            try:
                check_compatible(spec, existing, f"pinned at {path}")
            except BaseException:
                existing.close()
                raise
            return wrap(existing, spec, self._options)
        created = spec
        if spec.is_section or spec.name in self._digests:
            created = spec.copy()
            created.exclusive = self._digests.get(spec.name, spec.exclusive)
        if spec.is_section:
            created.name = data_map_name(self.spec.name, spec.name)
        inner = None
        if spec.inner is not None:
            inner_spec = spec.inner.copy()
            inner_spec.btf = None
            inner = loading.create_map(inner_spec)
        try:
            made = wrap(loading.create_map(created, inner), spec, self._options)
        finally:
            if inner is not None:
                inner.close()
        if path is not None:
            try:
                made.pin(path)
                self._pinned.append(path)
            except BaseException:
                made.close()
                raise
        return made

    def _complete(self, spec: MapSpec) -> None:
        """Sizes as libbpf completes them: an element for each CPU; rings of the next size there can be."""
        if spec.type == MapType.PERF_EVENT_ARRAY and not spec.max_entries:
            spec.max_entries = self.backend.cpu_limit
        elif spec.type in (MapType.RINGBUF, MapType.USER_RINGBUF) and 0 < spec.max_entries < 1 << 31:
            pages = -(-spec.max_entries // PAGESIZE)
            spec.max_entries = (1 << (pages - 1).bit_length()) * PAGESIZE

    def _fill_maps(self, spec: MapSpec) -> None:
        made = self.maps[spec.name]
        if spec.type == MapType.ARENA:
            memory = made.memory  # programs can only be loaded once the arena has its address
            if spec.data_size is not None:
                if spec.data_size > len(memory):
                    raise MapCreateError(
                        f"map {spec.name}: its variables have {spec.data_size} bytes, the arena {len(memory)}: raise max_entries"
                    )
                if not spec.untouched and spec.data is not None:
                    memory[: spec.data_size] = spec.data
                self.sections[spec.name] = ArenaSection(made)
        elif spec.is_section:
            if not spec.untouched and spec.data is not None:  # the kernel's maps start as zeros
                if len(spec.data) != made.info.value_size:
                    raise ObjectError(
                        f"map {spec.name}: its initial data has {len(spec.data)} bytes, its value {made.info.value_size}"
                    )
                slot = made._slot()
                slot.key[:] = bytes(4)
                slot.value[:] = spec.data
                made._check("update", slot.update(), 0)
                made._slots.append(slot)
            if spec.frozen:
                made.freeze()
            self.sections[spec.name] = DataSection(made, spec.frozen)
            return
        for key, value in spec.contents:
            if isinstance(value, str) and spec.type != MapType.PROG_ARRAY:
                if value not in self.maps:
                    raise ObjectError(f"map {spec.name}: values[{key}]: the object has no map {value}")
                made._update(key, self.maps[value].fileno().to_bytes(4, "little"))
            elif not isinstance(value, str):
                made._update(key, value)

    def _fill_programs(self, spec: MapSpec) -> None:
        if spec.type != MapType.PROG_ARRAY:
            return
        for key, name in spec.contents:
            program = self.programs.get(name)
            if program is not None:
                self.maps[spec.name]._update(key, program.fileno().to_bytes(4, "little"))


def _needs_target(spec: ObjectSpec) -> bool:
    return any(function.core_relocs for function in spec.functions.values())


def data_map_name(object_name: str, section: str) -> str:
    """The kernel's name of a data section's map: up to 8 characters of the object's name, then the section's.

    >>> data_map_name("exec_counts", ".rodata")
    'exec_cou.rodata'
    """
    suffix = section[:7]
    return object_name[: 15 - max(len(suffix), 7)] + suffix


def check_compatible(spec: MapSpec, existing: MapHandle, where: str = "") -> None:
    """Raise MapIncompatible, naming every difference, when a map cannot stand for `spec`."""
    differences = []
    entries = spec.max_entries
    if spec.flags & MapFlags.NO_COMMON_LRU:  # kernels give each CPU as many
        entries = -(-entries // existing.possible_cpus) * existing.possible_cpus
    for what, wanted, found in (
        ("type", spec.type_name, type_name(existing.info.type)),
        ("key_size", spec.key_size, existing.info.key_size),
        ("value_size", spec.value_size, existing.info.value_size),
        ("max_entries", entries, existing.info.max_entries),
        ("flags", _creation_flags(spec, spec.flags), _creation_flags(spec, existing.info.flags)),
        ("map_extra", spec.map_extra, existing.info.map_extra),
    ):
        if wanted != found:
            differences.append(f"{what} is {found}, wanted {wanted}")
    if differences:
        place = f" {where}" if where else ""
        raise MapIncompatible(f"map {spec.name}: the map{place} does not fit: {'; '.join(differences)}")


def _creation_flags(spec: MapSpec, flags: int) -> str:
    # The kernel tells flags as they were given, but for the file's mode, which differs by opener, and what it adds itself.
    own = MapFlags.RDONLY | MapFlags.WRONLY
    if spec.type in (MapType.DEVMAP, MapType.DEVMAP_HASH):
        own |= MapFlags.RDONLY_PROG
    return f"{int(flags) & ~int(own):#x}"
