"""From the bytes of an ELF object to the parts of an `ObjectSpec`."""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right

from bpf2py.btf.reader import HEADER, Btf
from bpf2py.btf.types import DataSec, Kind, Var
from bpf2py.btf.types import Ref as RefType
from bpf2py.elf.layout import (
    EM_BPF,
    EM_NONE,
    R_BPF_64_ABS32,
    R_BPF_64_NODYLD32,
    SHF_ALLOC,
    SHT_NOBITS,
    SHT_NULL,
    STB_LOCAL,
    STB_WEAK,
    STT_FUNC,
    STT_SECTION,
    STV_HIDDEN,
    STV_INTERNAL,
)
from bpf2py.elf.object_file import ElfFile, Reloc, Section, Symbol
from bpf2py.errors import ObjectError, RelocationError
from bpf2py.spec.btf_ext import BtfExt, CoreReloc, LineInfo, read_btf_ext
from bpf2py.spec.btf_maps import SECTION as MAPS_SECTION
from bpf2py.spec.btf_maps import BtfMap, read_btf_maps
from bpf2py.spec.layout import GlobalSymbol, Layout
from bpf2py.spec.map_spec import MapSpec
from bpf2py.spec.program_spec import Function, ProgramSpec, Ref, RefKind
from bpf2py.spec.variable_spec import ExternSpec, VariableSpec
from bpf2py.uapi.map_types import MapFlags, MapType
from bpf2py.uapi.program_types import ProgramType

OP_CALL = 0x85
OP_LD_IMM64 = 0x18

STRUCT_OPS_SECTIONS = (".struct_ops", ".struct_ops.link", "?.struct_ops", "?.struct_ops.link")

Location = tuple[int, int]  # ELF section index, byte offset


def is_data_section(name: str) -> bool:
    """Whether a section holds global variables that become a map."""
    return name in (".data", ".rodata", ".bss") or name.startswith((".data.", ".rodata.", ".bss."))


ARENA_SECTION = ".addr_space.1"  # variables in the address space of the arena's pointers


def is_legacy_section(name: str) -> bool:
    """Whether a section holds legacy map definitions: ``maps`` or ``maps/anything``."""
    return name == "maps" or name.startswith("maps/")


class ObjectReader:
    """Reads one object; the results stand in its attributes.

    Raises:
        ObjectError: damaged, or something the file asks for is not possible.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self.name = name
        self.elf = ElfFile(data, name)
        if self.elf.machine not in (EM_BPF, EM_NONE):
            raise ObjectError(
                f"{name}: not a BPF object: the ELF machine is {self.elf.machine}, not {EM_BPF}", offset=0x12
            )
        self.relocations: dict[int, list[Reloc]] = {}
        for section, relocs in self.elf.relocations():
            self.relocations.setdefault(section.number, []).extend(relocs)
        self._symbols: dict[int, list[Symbol]] = {}
        for symbol in self.elf.symbols:
            self._symbols.setdefault(symbol.section, []).append(symbol)
        self.btf = self._read_btf()
        self.license = self._read_license()
        self.kernel_version = self._read_version()
        self.maps: dict[str, MapSpec] = {}
        self.variables: dict[str, VariableSpec] = {}
        self.externs: dict[str, ExternSpec] = {}
        self.functions: dict[Location, Function] = {}
        self.programs: dict[str, ProgramSpec] = {}
        self._map_places: dict[Location, str] = {}
        self._btf_maps: list[BtfMap] = []
        self._read_maps()
        self._arena: tuple[int, str] | None = None  # its section's index, the map
        self._read_data_sections()
        self._read_arena()
        self._data_sections = {s.number for s in self.elf.sections if s.name in self.maps and is_data_section(s.name)}
        self._read_externs()
        self._read_functions()
        self._read_references()
        self._attach_ext_info()
        self._find_programs()
        self._read_initial_contents()
        self._read_struct_ops()

    def layout(self) -> Layout:
        """Global symbols and alignments, for linking with other objects."""
        symbols = {}
        for symbol in self.elf.symbols:
            if (
                symbol.binding != STB_LOCAL
                and symbol.defined
                and symbol.name
                and symbol.section < len(self.elf.sections)
            ):
                home = self.elf.sections[symbol.section]
                symbols[symbol.name] = GlobalSymbol(
                    home.number, home.name, symbol.value, symbol.size, symbol.binding == STB_WEAK, home.executable
                )
        return Layout(symbols, {s.name: s.align for s in self.elf.sections if is_data_section(s.name)})

    def _fail(self, what: str, section: Section | str | None = None, offset: int | None = None) -> ObjectError:
        return ObjectError(
            f"{self.name}: {what}", section=section.name if isinstance(section, Section) else section, offset=offset
        )

    def _read_btf(self) -> Btf | None:
        section = self.elf.find(".BTF")
        if section is None:
            return None
        relocs = self.relocations.get(section.number)
        data = section.data
        if relocs:
            # Offsets of global variables in DATASEC records come as relocations: ABS32 in read-only sections, else NODYLD32.
            patched = bytearray(data)
            for reloc in relocs:
                if reloc.type in (R_BPF_64_NODYLD32, R_BPF_64_ABS32) and reloc.offset + 4 <= len(patched):
                    (addend,) = struct.unpack_from("<I", patched, reloc.offset)
                    value = (self.elf.symbol(reloc.symbol).value + addend) & 0xFFFFFFFF
                    struct.pack_into("<I", patched, reloc.offset, value)
            data = bytes(patched)
        btf = Btf(data, name=self.name)
        return self._complete_datasecs(btf)

    def _complete_datasecs(self, btf: Btf) -> Btf:
        """Compilers leave the sizes of DATASEC records 0 and their entries unsorted; kernels want both right."""
        sizes = {s.name: s.size for s in self.elf.sections if s.name and s.flags & SHF_ALLOC}
        data: bytearray | None = None
        hdr_len, type_off = HEADER.unpack_from(btf.data)[3:5]
        for type_id in btf.ids_of_kind(Kind.DATASEC):
            datasec = btf.type(type_id)
            assert isinstance(datasec, DataSec)
            size = datasec.size or sizes.get(datasec.name, 0)
            rows = sorted(datasec.variables, key=lambda row: row.offset)
            if size == datasec.size and tuple(rows) == datasec.variables:
                continue
            data = data if data is not None else bytearray(btf.data)
            at = hdr_len + type_off + btf.record_offset(type_id)
            struct.pack_into("<I", data, at + 8, size)
            for i, row in enumerate(rows):
                struct.pack_into("<III", data, at + 12 + 12 * i, *row)
        return Btf(bytes(data), name=self.name) if data is not None else btf

    def _read_license(self) -> str:
        section = self.elf.find("license")
        if section is None:
            return ""
        return section.data.split(b"\0", 1)[0].decode("ascii", "replace")

    def _read_version(self) -> int:
        section = self.elf.find("version")
        if section is None:
            return 0
        if len(section.data) != 4:
            raise self._fail("the version must have 4 bytes", section)
        return int.from_bytes(section.data, "little")

    def _datasec(self, name: str) -> tuple[int, DataSec] | None:
        if self.btf is None:
            return None
        for type_id in self.btf.ids_by_name(name):
            btf_type = self.btf.type(type_id)
            if isinstance(btf_type, DataSec):
                return type_id, btf_type
        return None

    def _add_map(self, spec: MapSpec, place: Location) -> None:
        if spec.name in self.maps:
            raise self._fail(f"map {spec.name} is defined twice", MAPS_SECTION)
        self.maps[spec.name] = spec
        self._map_places[place] = spec.name

    def _read_maps(self) -> None:
        for section in self.elf.sections:
            if is_legacy_section(section.name) and section.size:
                from bpf2py.spec.legacy_maps import read_legacy_maps

                for spec, offset in read_legacy_maps(section, self._symbols.get(section.number, ()), self.name):
                    self._add_map(spec, (section.number, offset))
        found = self.elf.find(MAPS_SECTION)
        if found is None or not found.size:
            return
        datasec = self._datasec(MAPS_SECTION)
        if self.btf is None or datasec is None:
            raise self._fail("maps are defined by BTF, but the object has none; compile with -g", found)
        offsets = {s.name: s.value for s in self._symbols.get(found.number, ()) if s.type != STT_SECTION}
        self._btf_maps = read_btf_maps(self.btf, datasec[1], offsets, self.name)
        for btf_map in self._btf_maps:
            self._add_map(btf_map.spec, (found.number, btf_map.offset))

    def _read_data_sections(self) -> None:
        for section in self.elf.sections:
            if not is_data_section(section.name) or not section.size or section.executable or section.type == SHT_NULL:
                continue
            rodata = section.name.startswith(".rodata")
            flags = MapFlags.MMAPABLE | (MapFlags.RDONLY_PROG if rodata else MapFlags(0))
            datasec = self._datasec(section.name)
            spec = MapSpec(
                section.name,
                MapType.ARRAY,
                4,
                section.size,
                1,
                flags,
                btf=self.btf,
                data=None if section.type == SHT_NOBITS else bytearray(section.data),
                data_size=section.size,
                frozen=rodata,
                section_type_id=datasec[0] if datasec is not None else 0,
            )
            if section.name in self.maps:
                raise self._fail("there are two sections of this name", section)
            self.maps[section.name] = spec
            self._read_variables(section, spec, datasec[1] if datasec is not None else None)

    def _read_arena(self) -> None:
        section = self.elf.find(ARENA_SECTION)
        if section is None or not section.size:
            return
        arenas = [spec for spec in self.maps.values() if spec.type == MapType.ARENA]
        if len(arenas) != 1:
            raise self._fail(f"variables of an arena need one map of type ARENA, there are {len(arenas)}", section)
        (spec,) = arenas
        spec.data_size = section.size
        if section.type != SHT_NOBITS:
            spec.data = bytearray(section.data)
        self._arena = (section.number, spec.name)
        datasec = self._datasec(section.name)
        self._read_variables(section, spec, datasec[1] if datasec is not None else None)

    def _read_variables(self, section: Section, spec: MapSpec, datasec: DataSec | None) -> None:
        types: dict[str, int] = {}
        statics: list[tuple[str, int, int, int]] = []
        if datasec is not None and self.btf is not None:
            for entry in datasec.variables:
                var = self.btf.type(entry.type_id)
                if not isinstance(var, Var):
                    raise self._fail(f"an entry of {section.name} is not a variable", ".BTF")
                types[var.name] = var.type_id
                statics.append((var.name, entry.offset, entry.size, var.type_id))
        symbols = [
            (s.name, s.value, s.size, types.get(s.name, 0))
            for s in self._symbols.get(section.number, ())
            if s.name and s.type not in (STT_SECTION, STT_FUNC) and s.size
        ]
        for name, offset, size, type_id in symbols + statics:
            if offset + size > section.size:
                raise self._fail(f"variable {name} lies outside its section", section, offset)
            if name not in self.variables:
                self.variables[name] = VariableSpec(name, spec, offset, size, type_id)

    def _read_externs(self) -> None:
        weak = {s.name: s.binding == STB_WEAK for s in self.elf.symbols if s.section == 0 and s.name}
        for section in (".kconfig", ".ksyms"):
            datasec = self._datasec(section)
            if datasec is None or self.btf is None:
                continue
            for entry in datasec[1].variables:
                btf_type = self.btf.type(entry.type_id)
                if isinstance(btf_type, Var):
                    type_id, function = btf_type.type_id, False
                elif isinstance(btf_type, RefType) and btf_type.kind == Kind.FUNC:
                    type_id, function = btf_type.type_id, True
                else:
                    raise self._fail(f"an entry of {section} is neither variable nor function", ".BTF")
                name = btf_type.name
                self.externs[name] = ExternSpec(name, section, type_id, weak.get(name, False), function)
        for name, is_weak in weak.items():
            self.externs.setdefault(name, ExternSpec(name, "", 0, is_weak, False))

    def _read_functions(self) -> None:
        found: dict[Location, Symbol] = {}
        self._aliases: dict[Location, list[str]] = {}  # further global names of a function
        for symbol in self.elf.symbols:
            if symbol.type != STT_FUNC or not symbol.defined:
                continue
            section = self.elf.section(symbol.section)
            if not section.executable:
                continue
            if symbol.value % 8 or symbol.size % 8 or not symbol.size or symbol.value + symbol.size > section.size:
                raise self._fail(f"function {symbol.name} has a wrong place or size", section, symbol.value)
            place = (section.number, symbol.value)
            if place not in found or (symbol.binding != STB_LOCAL and found[place].binding == STB_LOCAL):
                found[place] = symbol
            elif symbol.binding != STB_LOCAL:
                self._aliases.setdefault(place, []).append(symbol.name)
        previous: Symbol | None = None
        self._starts: dict[int, list[int]] = {}
        for place in sorted(found):
            symbol, section = found[place], self.elf.section(place[0])
            if previous is not None and previous.section == place[0] and previous.value + previous.size > place[1]:
                raise self._fail(f"functions {previous.name} and {symbol.name} overlap", section, symbol.value)
            previous = symbol
            code = section.data[symbol.value : symbol.value + symbol.size]
            static = symbol.binding == STB_LOCAL or symbol.visibility in (STV_HIDDEN, STV_INTERNAL)
            self.functions[place] = Function(symbol.name, section.name, section.number, symbol.value, code, static)
            self._starts.setdefault(section.number, []).append(symbol.value)

    def _function_at(self, section: int, offset: int) -> Function | None:
        """The function that contains a place."""
        starts = self._starts.get(section, [])
        index = bisect_right(starts, offset) - 1
        if index < 0:
            return None
        function = self.functions[(section, starts[index])]
        return function if offset < function.offset + len(function.code) else None

    def _read_references(self) -> None:
        for section in self.elf.sections:
            if not section.executable:
                continue
            if section.size % 8:
                raise self._fail("the code is not made of 8-byte instructions", section)
            done: set[Location] = set()
            function, end = None, 0
            for reloc in self.relocations.get(section.number, []):
                if function is None or not function.offset <= reloc.offset < end:
                    function = self._function_at(section.number, reloc.offset)
                    if function is None:
                        raise self._fail("a relocation lies outside every function", section, reloc.offset)
                    end = function.offset + len(function.code)
                if reloc.offset % 8:
                    raise self._fail("a relocation lies between instructions", section, reloc.offset)
                symbol = self.elf.symbol(reloc.symbol)
                function.refs.append(self._reference(function, reloc.offset - function.offset, symbol, section))
                done.add((section.number, reloc.offset))
            # Calls and function addresses within a section need no relocation.
            for start in self._starts.get(section.number, []):
                self._local_calls(self.functions[(section.number, start)], done)

    def _local_calls(self, function: Function, done: set[Location]) -> None:
        code = function.code
        at, added = code.find(OP_CALL), False
        while at >= 0:
            if at % 8 == 0 and code[at + 1] >> 4 == 1 and (function.section, function.offset + at) not in done:
                (imm,) = struct.unpack_from("<i", code, at + 4)
                target = function.offset + at + (imm + 1) * 8
                if (function.section, target) not in self.functions:
                    raise self._fail("a call leads to no function", function.section_name, function.offset + at)
                function.refs.append(Ref(at, RefKind.CALL, "", target, function.section))
                added = True
            at = code.find(OP_CALL, at + 1)
        if added:
            function.refs.sort()

    def _reference(self, function: Function, at: int, symbol: Symbol, section: Section) -> Ref:
        code = function.code
        opcode, registers = code[at], code[at + 1]
        imm = int.from_bytes(code[at + 4 : at + 8], "little", signed=True)
        base = 0 if symbol.type == STT_SECTION else symbol.value
        if opcode == OP_CALL:
            if symbol.section == 0:
                return Ref(at, RefKind.EXTERN_CALL, symbol.name)
            if not symbol.defined or not self.elf.section(symbol.section).executable:
                raise self._bad_reference(function, at, symbol, section, "the call's target is not a function")
            target = base + (imm + 1) * 8 if registers >> 4 == 1 else symbol.value
            if (symbol.section, target) not in self.functions:
                raise self._bad_reference(function, at, symbol, section, f"there is no function at offset {target:#x}")
            return Ref(at, RefKind.CALL, "", target, symbol.section)
        if opcode != OP_LD_IMM64 or at + 16 > len(code):
            raise self._bad_reference(
                function, at, symbol, section, f"instruction with opcode {opcode:#04x} cannot be relocated"
            )
        if symbol.section == 0:
            if symbol.name not in self.externs:
                raise self._bad_reference(function, at, symbol, section, "nothing defines it")
            return Ref(at, RefKind.EXTERN_VAR, symbol.name)
        if not symbol.defined:
            raise self._bad_reference(
                function,
                at,
                symbol,
                section,
                f"section index {symbol.section:#x} is not supported; initialise the variable to move it to .bss",
            )
        target_section = self.elf.section(symbol.section)
        offset = base + (imm & 0xFFFFFFFF)
        if target_section.executable:
            if (symbol.section, offset) not in self.functions:
                raise self._bad_reference(function, at, symbol, section, f"there is no function at offset {offset:#x}")
            return Ref(at, RefKind.FUNC_ADDRESS, "", offset, symbol.section)
        name = self._map_places.get((symbol.section, offset))
        if name is not None:
            return Ref(at, RefKind.MAP, name)
        if target_section.number in self._data_sections:
            if offset > target_section.size:
                raise self._bad_reference(
                    function, at, symbol, section, f"offset {offset:#x} lies outside section {target_section.name}"
                )
            return Ref(at, RefKind.DATA, target_section.name, offset)
        if self._arena is not None and target_section.number == self._arena[0]:
            if offset > target_section.size:
                raise self._bad_reference(function, at, symbol, section, f"offset {offset:#x} lies outside the arena")
            return Ref(at, RefKind.DATA, self._arena[1], offset)
        raise self._bad_reference(
            function, at, symbol, section, f"it lies in section {target_section.name}, which programs cannot use"
        )

    def _bad_reference(
        self, function: Function, at: int, symbol: Symbol, section: Section, what: str
    ) -> RelocationError:
        message = f"{self.name}: program {function.name}: symbol {symbol.name!r}: {what}"
        return RelocationError(message, section=section.name, offset=function.offset + at)

    def _attach_ext_info(self) -> None:
        section = self.elf.find(".BTF.ext")
        if section is None or self.btf is None:
            return
        ext: BtfExt = read_btf_ext(section.data, self.btf, self.name)
        executable = {s.name: s.number for s in self.elf.sections if s.executable}
        for name, index in executable.items():
            for info in ext.funcs.get(name, []):
                function = self.functions.get((index, info.offset))
                if function is not None:
                    function.type_id = info.type_id
            self._attach_lines(index, ext.lines.get(name, []))
            for reloc in ext.core_relocs.get(name, []):
                function = self._function_at(index, reloc.offset)
                if function is None or reloc.offset % 8:
                    raise self._fail("a CO-RE relocation lies outside every function", name, reloc.offset)
                offset, type_id, access, kind = reloc
                function.core_relocs.append(CoreReloc(offset - function.offset, type_id, access, kind))

    def _attach_lines(self, section: int, lines: list[tuple[int, int, int, int]]) -> None:
        """Give each function of a section the lines, in order of their offsets, that lie in it."""
        at = 0
        for start in self._starts.get(section, []):
            function = self.functions[(section, start)]
            first = bisect_left(lines, (start,), at)
            at = bisect_left(lines, (start + len(function.code),), first)
            # Thousands of them: made without a call of LineInfo's own __new__.
            new = tuple.__new__
            function.lines = [
                new(LineInfo, (o - start, file, line, column)) for o, file, line, column in lines[first:at]
            ]

    def _find_programs(self) -> None:
        called = {
            (ref.section, ref.value)
            for function in self.functions.values()
            for ref in function.refs
            if ref.kind in (RefKind.CALL, RefKind.FUNC_ADDRESS)
        }
        local = {
            (s.section, s.value)
            for s in self.elf.symbols
            if s.type == STT_FUNC and s.binding == STB_LOCAL and s.defined
        }
        for place in sorted(self.functions):
            function = self.functions[place]
            # A static function is a program unless others call it.
            if function.section_name == ".text" or (place in local and place in called):
                continue
            for name in (function.name, *self._aliases.get(place, ())):
                if name in self.programs:
                    raise self._fail(f"program {name} is defined twice", function.section_name)
                self.programs[name] = spec = ProgramSpec(function)
                spec.name = name  # an alias is a program of its own with the same code

    def _read_initial_contents(self) -> None:
        """Static initialisation of maps of maps and program arrays."""
        found = self.elf.find(MAPS_SECTION)
        if found is None:
            return
        self._btf_maps.sort(key=lambda m: m.offset)
        starts = [m.offset for m in self._btf_maps]
        for reloc in self.relocations.get(found.number, []):
            if reloc.offset + 8 > found.size:
                raise self._fail("a relocation lies outside the section", found, reloc.offset)
            symbol = self.elf.symbol(reloc.symbol)
            # The values are a flexible array: they go on after the definition's end.
            position = bisect_right(starts, reloc.offset) - 1
            owner = self._btf_maps[position] if position >= 0 else None
            if owner is None or owner.values_offset < 0:
                raise self._fail("a relocation belongs to no map's values", found, reloc.offset)
            index, rest = divmod(reloc.offset - owner.offset - owner.values_offset, 8)
            if rest or index < 0:
                raise self._fail(f"map {owner.spec.name}: a value is misplaced", found, reloc.offset)
            name = self._initial_value(owner, symbol)
            if name is None:
                raise self._fail(
                    f"map {owner.spec.name}: values[{index}]: {symbol.name!r} is not a {owner.values_kind}",
                    found,
                    reloc.offset,
                )
            owner.spec.contents.append((index, name))
        for btf_map in self._btf_maps:
            if btf_map.values_kind == "program" and not btf_map.spec.max_entries and btf_map.spec.contents:
                btf_map.spec.max_entries = max(i for i, _ in btf_map.spec.contents) + 1

    def _read_struct_ops(self) -> None:
        used: set[str] = set()
        for section in self.elf.sections:
            if section.name not in STRUCT_OPS_SECTIONS or not section.size:
                continue
            datasec = self._datasec(section.name)
            if self.btf is None or datasec is None:
                raise self._fail("struct_ops need BTF; compile with -g", section)

            def program_at(reloc: Reloc, addend: int) -> str | None:
                symbol = self.elf.symbol(reloc.symbol)
                base = addend if symbol.type == STT_SECTION else symbol.value
                function = self.functions.get((symbol.section, base))
                return function.name if function is not None and function.name in self.programs else None

            from bpf2py.spec.read_struct_ops import read_struct_ops

            relocs = self.relocations.get(section.number, [])
            for spec in read_struct_ops(self.btf, section, datasec[1], relocs, program_at, self.name):
                if spec.name in self.maps:
                    raise self._fail(f"map {spec.name} is defined twice", section)
                self.maps[spec.name] = spec
                assert spec.struct_ops is not None
                used.update(spec.struct_ops.functions.values())
        for program in self.programs.values():
            if program.type == ProgramType.STRUCT_OPS and program.name not in used:
                program.autoload = False  # it implements nothing

    def _initial_value(self, owner: BtfMap, symbol: Symbol) -> str | None:
        if owner.values_kind == "map":
            return self._map_places.get((symbol.section, symbol.value))
        function = self.functions.get((symbol.section, symbol.value))
        return function.name if function is not None and function.name in self.programs else None
