"""Static linking: several objects become one, as `bpftool gen object` does it, but on specs instead of files.

Global names are resolved across the objects: functions, variables and maps that one declares ``extern`` and another
defines; a definition wins over weak ones of the same name. Data sections of the same name are put one after another.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from bpf2py._typing import NamedTuple
from bpf2py.btf.reader import Btf
from bpf2py.btf.types import DataSec, Kind, SecVar, Struct, Var
from bpf2py.btf.types import Ref as RefType
from bpf2py.errors import BtfError, ObjectError
from bpf2py.linker.core_types import types_compatible
from bpf2py.linker.merge_btf import BtfMerger
from bpf2py.spec.btf_maps import EXTERN, read_definition
from bpf2py.spec.btf_maps import SECTION as MAPS
from bpf2py.spec.layout import GlobalSymbol, Layout
from bpf2py.spec.map_spec import MapSpec
from bpf2py.spec.object_spec import ObjectSpec
from bpf2py.spec.program_spec import Function, Ref, RefKind
from bpf2py.spec.variable_spec import ExternSpec, VariableSpec

MAX_ALIGN = 1 << 16
_FROM_KERNEL = (".kconfig", ".ksyms")
_ONE_FOR_ALL = ("license", "version")


class _Definition(NamedTuple):
    """The definition of a global name that holds, and its object's number."""

    owner: int
    symbol: GlobalSymbol


def link_objects(specs: Sequence[ObjectSpec]) -> ObjectSpec:
    """Link objects into one; the given specs stay as they are.

    Args:
        specs: at least one; changes made to them (values of variables, `max_entries`, `autoload`) hold on.

    Raises:
        ObjectError: a name is defined twice, definition and declaration disagree, or the licenses differ.
    """
    return _StaticLinker(specs).link()


class _StaticLinker:
    def __init__(self, specs: Sequence[ObjectSpec]) -> None:
        self.specs = specs
        names = [spec.name for spec in specs]
        self.labels = [name if names.count(name) == 1 else f"{name} #{i + 1}" for i, name in enumerate(names)]
        self.definitions: dict[str, _Definition] = {}
        self.losers: set[tuple[int, str]] = set()
        # Section indices of each object are counted on from those of the ones before it.
        self.starts = [0]
        for spec in specs:
            self.starts.append(self.starts[-1] + max((section for section, _ in spec.functions), default=0) + 1)
        self._resolve()
        self._check_declarations()
        self.bases: dict[tuple[int, str], int] = {}
        self.sizes: dict[str, int] = {}
        self.alignments: dict[str, int] = {}
        self._place_sections()
        self.merger = BtfMerger([spec.types for spec in specs], [self._dropped_types(i) for i in range(len(specs))])

    def link(self) -> ObjectSpec:
        """The linked object."""
        new = ObjectSpec.__new__(ObjectSpec)
        new.name = self.specs[0].name
        new.license = self._license()
        new.kernel_version = max(spec.kernel_version for spec in self.specs)
        functions = {}
        for owner, spec in enumerate(self.specs):
            for place, function in spec.functions.items():
                if not self._lost(owner, function.name, place):
                    functions[owner, place] = self._function(owner, function)
        datasecs = self._datasecs()
        new.functions = {(f.section, f.offset): f for f in functions.values()}
        new.maps = self._maps(datasecs)
        new.externs = self._externs()
        new.types = self.merger.finish(new.name) if any(spec.types is not None for spec in self.specs) else None
        for made in new.maps.values():
            made.btf = new.types
            if made.inner is not None:
                made.inner.btf = new.types
        new.variables = self._variables(new.maps)
        new.programs = {}
        for owner, spec in enumerate(self.specs):
            for name, program in spec.programs.items():
                place = (program.function.section, program.function.offset)
                if self._lost(owner, program.function.name, place):
                    continue
                if name in new.programs:
                    raise ObjectError(f"{self.labels[owner]}: program {name} is defined in another object, too")
                copied = program.copy()
                copied.function = functions[owner, place]
                new.programs[name] = copied
        new.layout = self._layout()
        return new

    # -- names ---------------------------------------------------------------------------------------------------

    def _resolve(self) -> None:
        for owner, spec in enumerate(self.specs):
            for name, symbol in spec.layout.symbols.items():
                if symbol.section_name in _ONE_FOR_ALL:
                    continue
                known = self.definitions.get(name)
                if known is None:
                    self.definitions[name] = _Definition(owner, symbol)
                    continue
                here, there = self.labels[owner], self.labels[known.owner]
                if known.symbol.function != symbol.function or (known.symbol.section_name == MAPS) != (
                    symbol.section_name == MAPS
                ):
                    raise ObjectError(
                        f"{name} is {self._kind(symbol)} in {here}, but {self._kind(known.symbol)} in {there}"
                    )
                if not symbol.weak and not known.symbol.weak:
                    raise ObjectError(
                        f"{self._kind(symbol)} {name} is defined both in {there} and in {here}; make one of them static, "
                        "extern or __weak"
                    )
                if symbol.section_name == MAPS:
                    self._check_map(name, self._map(owner, name), owner, self._map(known.owner, name), known.owner)
                if known.symbol.weak and not symbol.weak:
                    self.losers.add((known.owner, name))
                    self.definitions[name] = _Definition(owner, symbol)
                else:
                    self.losers.add((owner, name))

    def _map(self, owner: int, name: str) -> MapSpec:
        found = self.specs[owner].maps.get(name)
        if found is None:
            raise ObjectError(f"{self.labels[owner]}: {name} lies in section {MAPS}, but is not a map", section=MAPS)
        return found

    @staticmethod
    def _kind(symbol: GlobalSymbol) -> str:
        return "function" if symbol.function else "map" if symbol.section_name == MAPS else "variable"

    def _lost(self, owner: int, name: str, place: tuple[int, int]) -> bool:
        """Whether a function gives way to another object's; static functions of that name are not concerned."""
        if (owner, name) not in self.losers:
            return False
        symbol = self.specs[owner].layout.symbols[name]
        return (symbol.section, symbol.value) == place

    def _resolved(self, extern: ExternSpec) -> _Definition | None:
        """The definition of what an object declares extern, unless it is asked of the kernel."""
        return None if extern.section in _FROM_KERNEL else self.definitions.get(extern.name)

    def _check_declarations(self) -> None:
        for owner, spec in enumerate(self.specs):
            for extern in spec.externs.values():
                definition = self._resolved(extern)
                if definition is None or spec.types is None:
                    continue
                for type_id in spec.types.ids_by_name(extern.name):
                    declared = spec.types.type(type_id)
                    if isinstance(declared, Var) and declared.linkage == EXTERN:
                        self._check_variable(owner, spec.types, declared, definition)
                    elif isinstance(declared, RefType) and declared.kind == Kind.FUNC and declared.linkage == EXTERN:
                        self._check_function(owner, spec.types, declared, definition)

    def _check_variable(self, owner: int, types: Btf, declared: Var, definition: _Definition) -> None:
        name, here, there = declared.name, self.labels[owner], self.labels[definition.owner]
        symbol = definition.symbol
        if symbol.function:
            raise ObjectError(f"{name} is declared as a variable in {here}, but is a function in {there}")
        if symbol.section_name == MAPS:
            struct_type = types.resolved(declared.type_id)
            if not isinstance(struct_type, Struct):
                raise ObjectError(f"{name} is declared as a variable in {here}, but is a map in {there}")
            wanted = read_definition(types, struct_type, name, here, inner=False)[0]
            self._check_map(name, wanted, owner, self._map(definition.owner, name), definition.owner)
            return
        try:
            size = types.size_of(declared.type_id)
        except BtfError:
            return  # a struct only declared
        if size and size != symbol.size:
            raise ObjectError(
                f"variable {name} has {size} bytes in its declaration in {here}, but {symbol.size} in {there}"
            )

    def _check_function(self, owner: int, types: Btf, declared: RefType, definition: _Definition) -> None:
        name, here, there = declared.name, self.labels[owner], self.labels[definition.owner]
        if not definition.symbol.function:
            raise ObjectError(f"{name} is declared as a function in {here}, but is not a function in {there}")
        target = self.specs[definition.owner]
        function = target.functions.get((definition.symbol.section, definition.symbol.value))
        if function is None or target.types is None or not function.type_id:
            return
        defined = target.types.type(function.type_id)
        if isinstance(defined, RefType) and not types_compatible(
            types, declared.type_id, target.types, defined.type_id
        ):
            raise ObjectError(
                f"function {name}: its declaration in {here} does not agree with its definition in {there}"
            )

    def _check_map(self, name: str, a: MapSpec, a_owner: int, b: MapSpec, b_owner: int) -> None:
        differences = [
            f"{what} is {getattr(a, what)} and {getattr(b, what)}"
            for what in ("type_name", "key_size", "value_size", "max_entries", "flags", "map_extra", "pinning")
            if getattr(a, what) != getattr(b, what)
        ]
        if differences:
            raise ObjectError(
                f"map {name} differs between {self.labels[a_owner]} and {self.labels[b_owner]}: {'; '.join(differences)}"
            )

    def _license(self) -> str:
        found = ""
        for spec, label in zip(self.specs, self.labels, strict=True):
            if spec.license and found and spec.license != found:
                raise ObjectError(f"{label}: the license is {spec.license!r}, but {found!r} in the objects before it")
            found = found or spec.license
        return found

    # -- data ----------------------------------------------------------------------------------------------------

    def _place_sections(self) -> None:
        for owner, spec in enumerate(self.specs):
            for name, section in spec.maps.items():
                if section.data_size is None:
                    continue
                if not section.is_section:
                    raise ObjectError(
                        f"{self.labels[owner]}: map {name}: objects with variables of an arena cannot be linked with others"
                    )
                align = max(spec.layout.alignments.get(name, 8), 1)
                if align > MAX_ALIGN or align & (align - 1):
                    raise ObjectError(f"{self.labels[owner]}: the alignment {align} is not plausible", section=name)
                base = -(-self.sizes.get(name, 0) // align) * align
                self.bases[owner, name] = base
                self.sizes[name] = base + section.data_size
                self.alignments[name] = max(align, self.alignments.get(name, 1))

    def _data_place(self, owner: int, section: str, offset: int) -> tuple[str, int]:
        """Where a byte of a data section is now, of the variable that won where it belongs to one that lost."""
        for name, symbol in self.specs[owner].layout.symbols.items():
            if symbol.section_name == section and (owner, name) in self.losers:
                within = offset - symbol.value
                if 0 <= within < symbol.size:
                    winner = self.definitions[name]
                    home = winner.symbol.section_name
                    if (winner.owner, home) not in self.bases:
                        raise ObjectError(
                            f"variable {name} lies in section {home} of {self.labels[winner.owner]}, which programs cannot use"
                        )
                    return home, self.bases[winner.owner, home] + winner.symbol.value + within
        return section, self.bases[owner, section] + offset

    def _maps(self, datasecs: dict[str, int]) -> dict[str, MapSpec]:
        made: dict[str, MapSpec] = {}
        for owner, spec in enumerate(self.specs):
            ids = self.merger.ids[owner]
            for name, old in spec.maps.items():
                if (owner, name) in self.losers:
                    continue
                if name in made:
                    if old.data_size is None or made[name].data_size is None:
                        raise ObjectError(f"{self.labels[owner]}: map {name} is defined in another object, too")
                    continue
                new = made[name] = old.copy()
                if old.data_size is not None:
                    self._merge_data(new, name)
                    new.section_type_id = datasecs.get(name, 0)
                _renumber(new, ids)
        return made

    def _merge_data(self, new: MapSpec, name: str) -> None:
        """Give a section's map the bytes of all objects' sections of this name."""
        size = self.sizes[name]
        new.value_size = size
        parts = [
            (self.bases[owner, name], spec.maps[name])
            for owner, spec in enumerate(self.specs)
            if name in spec.maps and (owner, name) in self.bases
        ]
        new.data, new.data_size = None, size
        if all(part.untouched for _, part in parts):
            return
        data = bytearray(size)
        for base, part in parts:
            if not part.untouched and part.data is not None:
                data[base : base + len(part.data)] = part.data
        new.data = data

    def _variables(self, maps: dict[str, MapSpec]) -> dict[str, VariableSpec]:
        found: dict[str, tuple[bool, VariableSpec]] = {}
        for owner, spec in enumerate(self.specs):
            for name, old in spec.variables.items():
                symbol = spec.layout.symbols.get(name)
                is_global = symbol is not None and (symbol.section_name, symbol.value) == (old.map.name, old.offset)
                # A global variable hides static ones of its name.
                if (is_global and (owner, name) in self.losers) or (name in found and not is_global):
                    continue
                if old.map.name not in maps or (owner, old.map.name) not in self.bases:
                    continue
                offset = self.bases[owner, old.map.name] + old.offset
                type_id = self.merger.ids[owner].get(old.type_id, 0)
                found[name] = (is_global, VariableSpec(name, maps[old.map.name], offset, old.size, type_id))
        return {name: variable for name, (_, variable) in found.items()}

    # -- code ----------------------------------------------------------------------------------------------------

    def _function(self, owner: int, old: Function) -> Function:
        ids, spec = self.merger.ids[owner], self.specs[owner]
        section = old.section + self.starts[owner]
        new = Function(old.name, old.section_name, section, old.offset, old.code, old.is_static)
        new.type_id = ids.get(old.type_id, 0)
        new.refs = [self._ref(owner, old, ref) for ref in old.refs]
        new.core_relocs = [reloc._replace(type_id=ids.get(reloc.type_id, 0)) for reloc in old.core_relocs]
        if spec.types is not None:
            string, text = self.merger.string, spec.types.string
            new.lines = [
                line._replace(file_off=string(text(line.file_off)), line_off=string(text(line.line_off)))
                for line in old.lines
            ]
        return new

    def _ref(self, owner: int, function: Function, ref: Ref) -> Ref:
        if ref.kind in (RefKind.CALL, RefKind.FUNC_ADDRESS):
            callee = self.specs[owner].functions.get((ref.section, ref.value))
            if callee is not None and self._lost(owner, callee.name, (ref.section, ref.value)):
                return self._to_function(ref, self.definitions[callee.name], ref.kind)
            return ref._replace(section=ref.section + self.starts[owner])
        if ref.kind == RefKind.DATA:
            name, value = self._data_place(owner, ref.name, ref.value)
            return ref._replace(name=name, value=value)
        if ref.kind not in (RefKind.EXTERN_VAR, RefKind.EXTERN_CALL):
            return ref
        extern = self.specs[owner].externs.get(ref.name)
        definition = self._resolved(extern) if extern is not None else None
        if definition is None:
            return ref
        symbol = definition.symbol
        if symbol.function:
            kind = RefKind.CALL if ref.kind == RefKind.EXTERN_CALL else RefKind.FUNC_ADDRESS
            return self._to_function(ref, definition, kind)
        if ref.kind == RefKind.EXTERN_CALL:
            raise ObjectError(f"{self.labels[owner]}: {function.name} calls {ref.name}, which is not a function")
        if symbol.section_name == MAPS:
            return ref._replace(kind=RefKind.MAP)
        if (definition.owner, symbol.section_name) not in self.bases:
            raise ObjectError(
                f"{self.labels[owner]}: {function.name} uses {ref.name}, which lies in section {symbol.section_name} of "
                f"{self.labels[definition.owner]}"
            )
        # The instruction holds what is added to the symbol, such as the place of an array's element.
        (within,) = struct.unpack_from("<i", function.code, ref.offset + 4)
        value = self.bases[definition.owner, symbol.section_name] + symbol.value + within
        return Ref(ref.offset, RefKind.DATA, symbol.section_name, value)

    def _to_function(self, ref: Ref, definition: _Definition, kind: RefKind) -> Ref:
        symbol = definition.symbol
        return Ref(ref.offset, kind, "", symbol.value, symbol.section + self.starts[definition.owner])

    def _externs(self) -> dict[str, ExternSpec]:
        found: dict[str, ExternSpec] = {}
        for owner, spec in enumerate(self.specs):
            for name, old in spec.externs.items():
                if self._resolved(old) is not None:
                    continue
                new = old._replace(type_id=self.merger.ids[owner].get(old.type_id, 0))
                known = found.get(name)
                if known is None:
                    found[name] = new
                    continue
                if known.section != new.section or known.function != new.function:
                    raise ObjectError(f"{self.labels[owner]}: {name} is declared otherwise in another object")
                found[name] = known._replace(weak=known.weak and new.weak)
        return found

    # -- types ---------------------------------------------------------------------------------------------------

    def _dropped_types(self, owner: int) -> set[int]:
        """Declarations that a definition replaces, and definitions that lose."""
        spec = self.specs[owner]
        if spec.types is None:
            return set()
        resolved = {name for name, extern in spec.externs.items() if self._resolved(extern) is not None}
        gone = {name for number, name in self.losers if number == owner}
        dropped = set()
        for kind in (Kind.VAR, Kind.FUNC):
            for type_id in spec.types.ids_of_kind(kind):
                declared = spec.types.type(type_id)
                assert isinstance(declared, Var | RefType)
                if declared.name in (resolved if declared.linkage == EXTERN else gone) and declared.linkage:
                    dropped.add(type_id)
        return dropped

    def _datasecs(self) -> dict[str, int]:
        """Add the data sections' types; their ids by name."""
        rows: dict[str, list[SecVar]] = {}
        sizes: dict[str, int] = {}
        seen: set[tuple[str, str]] = set()
        for owner, spec in enumerate(self.specs):
            if spec.types is None:
                continue
            ids = self.merger.ids[owner]
            for type_id in spec.types.ids_of_kind(Kind.DATASEC):
                section = spec.types.type(type_id)
                assert isinstance(section, DataSec)
                name = section.name
                if name in _ONE_FOR_ALL and name in rows:
                    continue
                base = self.bases.get((owner, name), -(-sizes.get(name, 0) // 8) * 8)
                if name in _FROM_KERNEL:
                    base = 0
                merged = rows.setdefault(name, [])
                for row in section.variables:
                    entry = spec.types.type(row.type_id)
                    if not ids.get(row.type_id) or (name in _FROM_KERNEL and (name, entry.name) in seen):
                        continue
                    seen.add((name, entry.name))
                    merged.append(SecVar(ids[row.type_id], base + row.offset, row.size))
                sizes[name] = max(sizes.get(name, 0), base + section.size)
        return {
            name: self.merger.add_datasec(name, self.sizes.get(name, sizes[name]), merged)
            for name, merged in rows.items()
            if merged
        }

    def _layout(self) -> Layout:
        """The linked object's own: it may be linked again."""
        symbols = {}
        for name, (owner, symbol) in self.definitions.items():
            base = self.bases.get((owner, symbol.section_name), 0)
            symbols[name] = symbol._replace(section=symbol.section + self.starts[owner], value=symbol.value + base)
        return Layout(symbols, dict(self.alignments))


def _renumber(spec: MapSpec, ids: dict[int, int]) -> None:
    """Give a map's copy the new type ids."""
    spec.key_type_id = ids.get(spec.key_type_id, 0)
    spec.value_type_id = ids.get(spec.value_type_id, 0)
    if spec.struct_ops is not None:
        spec.struct_ops = spec.struct_ops.copy()
        spec.struct_ops.type_id = ids.get(spec.struct_ops.type_id, 0)
    if spec.inner is not None:
        _renumber(spec.inner, ids)
