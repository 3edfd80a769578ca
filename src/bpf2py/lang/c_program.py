"""A whole program as C."""

from __future__ import annotations

from bpf2py.lang.c_pieces import text_literal
from bpf2py.lang.c_places import context_uses, statements
from bpf2py.lang.c_statements import CStatements
from bpf2py.lang.c_types import CNames, number
from bpf2py.lang.kernel_types import KernelTypes
from bpf2py.lang.source import Source
from bpf2py.lang.tree import Each, Function, MapDecl, Program
from bpf2py.lang.types import BOOL, Array, Int, Opt, Struct, Type
from bpf2py.uapi.map_types import MapType

__all__ = ["print_program"]

_STORAGE_KEY = ("SK_STORAGE", "INODE_STORAGE", "TASK_STORAGE", "CGRP_STORAGE")


class _Printer:
    def __init__(
        self, source: Source, program: Program, kernel: KernelTypes, macros: dict[str, int], directives: bool
    ) -> None:
        self.source = source
        self.program = program
        self.names = CNames(kernel)
        self.code = CStatements(self.names)
        self.macros = macros
        self.directives = directives
        self.out: list[str] = []
        self.line = 0

    def run(self) -> str:
        self.code.contexts = context_uses(self.program.functions)
        functions = [(each, self.code.function(each)) for each in self.program.functions if each.kind != "c"]
        self._head()
        self._types()
        self._globals()
        self._maps(functions)
        for name, text in self.code.functions.items():
            for line in text.splitlines():
                self._mark(self.code.functions.lines.get(name, 0))  # what fails in it fails where it is used
                self.out.append(line)
            self.out.append("")
        self._prototypes()
        for _, lines in functions:
            self._lines(lines)
        return "\n".join(self.out) + "\n"

    def _head(self) -> None:
        name = self.source.path.rpartition("/")[2]
        self.out += [f"/* {name} as C: written by bpf2py */", '#include "vmlinux.h"', "#include <bpf/bpf_helpers.h>"]
        self.out += [f"#include <{header}>" for header in sorted(self.code.headers)]
        self.out += [f"#include {header}" for header in sorted(self.program.headers)]
        needed = sorted(self.program.kernel_names | self._iterators())
        if needed:
            self.out.append(f"/* of the kernel: {', '.join(needed)} */")
        self.out.append("")
        if any(found.kind == MapType.ARENA for found in self.program.maps):
            self.out += ["#define __arena __attribute__((address_space(1)))", ""]
        used = [(key, value) for key, value in self.macros.items()]
        for key, value in used:
            self.out += [f"#ifndef {key}", f"#define {key} {value if value < 1 << 31 else hex(value)}", "#endif"]
        if used:
            self.out.append("")

    def _iterators(self) -> set[str]:
        kinds = {each.kind for function in self.program.functions for each in _walk(function) if isinstance(each, Each)}
        names = {f"bpf_iter_{kind}_{step}" for kind in kinds for step in ("new", "next", "destroy")}
        return names | {f"bpf_iter_{kind}" for kind in kinds}

    def _types(self) -> None:
        for name, members in self.program.enums.items():
            self.out.append(f"enum {self.names.of(name)} {{")
            self.out += [f"\t{name}_py__{member} = {value}," for member, value in members.items()]
            self.out += ["};", ""]
        for struct in self.program.structs:
            self.out.append(f"{self.names.tag(struct)} {{")
            for field in struct.fields.values():
                bits = f" : {field.bits}" if field.bits else ""
                declared = self._field(field.type, self.names.inner(field.name))
                self.out.append(f"\t{declared}{bits}{self._contains(field.contains)}{_tagged(field.tags)};")
            self.out += ["}" + (" __attribute__((packed))" if struct.packed else "") + ";", ""]

    @staticmethod
    def _contains(contains: str) -> str:
        return f' __attribute__((btf_decl_tag("contains:{contains}")))' if contains else ""

    def _field(self, kind: Type, name: str) -> str:
        """A field's declaration: pointers to kernel objects that a program keeps are tagged as such."""
        if isinstance(kind, Opt) and isinstance(kind.pointer.target, Struct) and kind.pointer.target.kernel:
            return f"{self.names.tag(kind.pointer.target)} __kptr *{name}"
        return self.names.declare(kind, name, True)

    # -- variables ---------------------------------------------------------------------------------------------------

    def _globals(self) -> None:
        for variable in self.program.globals:
            if variable.section:
                continue
            name = self.names.of(variable.name)
            self._mark(getattr(variable.node, "lineno", 0))
            declared = self.names.declare(variable.type, name, True)
            if variable.extern:
                attribute = "__kconfig" if variable.extern == "kconfig" else "__ksym"
                weak = " __weak" if variable.extern == "kconfig" and not name.startswith("LINUX_") else ""
                const = "const " if variable.extern == "ksym" else ""
                self.out.append(f"extern {const}{declared} {attribute}{weak};")
                continue
            if variable.contains or (
                isinstance(variable.type, Struct) and variable.type.name in ("bpf_spin_lock", "bpf_res_spin_lock")
            ):
                tag = self._contains(variable.contains)
                self.out.append(f'{declared}{tag} SEC(".bss.graph") __hidden __attribute__((aligned(8)));')
                continue
            value = self.value(variable.type, variable.value)
            const = "const volatile " if variable.const else ""
            self.out.append(f"{const}{declared}{_tagged(variable.tags)}{f' = {value}' if value else ''};")
        if self.program.globals:
            self.out.append("")

    def value(self, kind: Type, value: object) -> str:
        """An initial value; empty for zeros."""
        if value is None or value == 0:
            return (
                "0"
                if isinstance(kind, Int) and value == 0
                else "false"
                if kind == BOOL
                else "{}"
                if isinstance(kind, Array | Struct)
                else ""
            )
        if isinstance(value, bytes):
            return text_literal(value)
        if isinstance(value, list) and isinstance(kind, Array):
            return "{" + ", ".join(self.value(kind.element, each) or "0" for each in value) + "}"
        if isinstance(value, dict) and isinstance(kind, Struct):
            fields = []
            for name, each in value.items():
                if isinstance(each, str):
                    fields.append(f".{name} = (void *){self.names.of(each)}")
                    continue
                field = kind.fields[name]
                fields.append(
                    f".{name if kind.kernel else self.names.inner(name)} = {self.value(field.type, each) or '0'}"
                )
            return "{ " + ", ".join(fields) + " }"
        assert isinstance(value, int)
        return number(value, kind)

    # -- maps --------------------------------------------------------------------------------------------------------

    def _maps(self, functions: list[tuple[Function, list[tuple[int, str, int]]]]) -> None:
        programs = [each[1] for found in self.program.maps for each in found.values if isinstance(each[1], Function)]
        for function in programs:
            parameters = "void *ctx" if function.context is None else self.names.declare(function.context, "ctx")
            if not function.macro:
                self.out.append(f"int {self.names.of(function.name)}({parameters});")
        for found in self.program.maps:
            self._mark(getattr(found.node, "lineno", 0))
            inner = found.inner
            self.out.append("struct {")
            self.out += [f"\t{line}" for line in self._map_lines(found)]
            if inner is not None:
                self.out.append("\t__array(values, struct {")
                self.out += [f"\t\t{line}" for line in self._map_lines(inner)]
                self.out.append("\t});")
            elif any(isinstance(each, Function) for _, each in found.values):
                self.out.append("\t__array(values, int (void *));")
            initial = ""
            if found.values:
                what = [
                    f"[{i}] = {'(void *)' if isinstance(v, Function) else ''}&{self.names.of(v.name)}"
                    for i, v in found.values
                    if isinstance(v, Function | MapDecl)
                ]
                initial = f" = {{\n\t.values = {{ {', '.join(what)} }},\n}}"
            self.out += [f'}} {self.names.of(found.name)} SEC(".maps"){_tagged(found.tags)}{initial};', ""]

    def _map_lines(self, found: MapDecl) -> list[str]:
        lines = [f"__uint(type, BPF_MAP_TYPE_{found.kind.name});"]
        if found.max_entries is not None:
            lines.append(f"__uint(max_entries, {found.max_entries});")
        kind = found.kind.name
        if found.key is not None:
            lines.append(
                f"__type(key, {'int' if kind in _STORAGE_KEY else self.names.declare(found.key, exact=True)});"
            )
        elif kind == "INSN_ARRAY":
            lines.append("__uint(key_size, 4);")
        if (
            found.inner is None
            and found.value is not None
            and not any(isinstance(v, Function) for _, v in found.values)
        ):
            lines.append(f"__type(value, {self._value(found.value)});")
        if found.flags:
            lines.append(f"__uint(map_flags, {found.flags:#x});")
        for key, value in found.extra.items():
            lines.append(f"__{'ulong' if key == 'map_extra' and value > 0x7FFFFFFF else 'uint'}({key}, {value});")
        if found.pinning:
            lines.append("__uint(pinning, LIBBPF_PIN_BY_NAME);")
        return lines

    def _value(self, kind: Type) -> str:
        return self.names.declare(kind, exact=True)

    # -- functions ---------------------------------------------------------------------------------------------------

    def _prototypes(self) -> None:
        """Callbacks that are used before they are defined (a timer that starts itself)."""
        for variable in self.program.globals:
            if variable.section:
                self.program.kernel_names.add(variable.type.name if isinstance(variable.type, Struct) else "")
        done: set[str] = set()
        for function in self.program.functions:
            for name in sorted(function.calls):
                target = next((each for each in self.program.functions if each.name == name), None)
                if (
                    target is not None
                    and target.callback
                    and name not in done
                    and self.program.functions.index(target) >= self.program.functions.index(function)
                ):
                    done.add(name)
                    self.out.append(f"{self.code._head(target)[0]};")
        if done:
            self.out.append("")

    def _mark(self, line: int) -> None:
        if not line:
            return
        if self.directives:
            if line != self.line:
                source, own = self.source.of(line)
                path = source.path.replace("\\", "\\\\").replace('"', '\\"')
                self.out.append(f'#line {own} "{path}"')
            self.line = 0

    def _lines(self, lines: list[tuple[int, str, int]]) -> None:
        last = 0
        for depth, text, line in lines:
            if line and line != last:
                if self.directives:
                    self._mark(line)
                elif depth:
                    shown = self.source.line(line).strip().replace("*/", "* /")
                    source, own = self.source.of(line)
                    where = f"{source.path.rpartition('/')[2]}:{own}" if source.first else own
                    self.out.append("\t" * depth + f"/* {where}: {shown} */")
            elif self.directives and text:
                self._mark(line or last)  # a brace belongs to the statement before it
            last = line or last
            self.out.append("\t" * depth + text if text else "")

    def finish(self) -> list[str]:
        out = []
        for variable in self.program.globals:
            if variable.section:
                value = self.value(variable.type, variable.value)
                assert isinstance(variable.type, Struct)
                out.append(f'SEC("{variable.section}")')
                out.append(f"{self.names.tag(variable.type)} {self.names.of(variable.name)} = {value};")
        return [*out, f'char LICENSE[] SEC("license") = {text_literal(self.program.license.encode())};']


def _walk(function: Function) -> list[object]:
    return list(statements(function.body))


def print_program(
    source: Source, program: Program, kernel: KernelTypes, macros: dict[str, int], *, directives: bool = True
) -> str:
    """The C of a checked program; with ``#line`` directives, or with the program's lines as comments."""
    printer = _Printer(source, program, kernel, macros, directives)
    text = printer.run()
    return text + "\n".join(printer.finish()) + "\n"


def _tagged(tags: tuple[str, ...]) -> str:
    return "".join(f" __attribute__((btf_decl_tag({text_literal(tag.encode())})))" for tag in tags)
