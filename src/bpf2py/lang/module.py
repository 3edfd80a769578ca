"""A module: its declarations in order, then the bodies of its functions, checked until all types are known."""

from __future__ import annotations

import ast
import os
import re
from typing import Any

from bpf2py.lang import calls, declarations, expressions, functions, loops, map_methods, references, statements
from bpf2py.lang.c_types import PREFIX
from bpf2py.lang.helper_calls import argument
from bpf2py.lang.imports import PYTHON_STACKS, Imports, bind_module, bind_names
from bpf2py.lang.kernel_types import KernelTypes
from bpf2py.lang.names import EnumType, Names
from bpf2py.lang.scope import Checker
from bpf2py.lang.source import Source
from bpf2py.lang.tree import Assign, Expr, Function, GlobalVar, Local, MapDecl, Program, Var
from bpf2py.lang.types import LITERAL, NONE, S64, VOID, Opt, Ptr, Struct, Type

__all__ = ["Module", "check"]

_ROUNDS = 12
_INNER = re.compile(r"\W")
Checker.expressions |= {**expressions.EXPRESSIONS, ast.Call: calls.call}
statements.STATEMENTS.update(loops.LOOPS)
_KNOWN_MODULES = ("bpf2py", "typing", "enum", "__future__", "collections")


class Module(Names):
    """A file of the program that is being checked.

    Attributes:
        own: what the file itself defines, of all its `names`.
        imports: the files of the program.
    """

    def __init__(self, source: Source, kernel: KernelTypes, importer: Module | None = None) -> None:
        super().__init__(source, kernel)
        self.own: dict[str, Any] = {}
        self.given: dict[tuple[str, str], set[tuple[bool, bool]]] = {}
        self.imports = Imports(source.path)
        self._taken: dict[str, Module] = {}  # names that the object has, and the files that define them
        self._homes: dict[str, Module] = {}
        if importer is not None:
            self.given, self.imports, self._taken = importer.given, importer.imports, importer._taken
            self.program, self.macros = importer.program, importer.macros

    def map_method(self, c: Checker, node: ast.AST, base: Expr, name: str, values: list[Expr]) -> Expr:
        """An operator on a map."""
        return map_methods.method(c, node, base, name, values)

    def argument(self, c: Checker, node: ast.AST, value: Expr, kind: Type, name: str) -> Expr:
        """A value as a kernel function's argument."""
        return argument(c, node, value, kind, name)

    def flows_into(self, function: Function, parameter: Local, value: Expr) -> None:
        """A call passes a value: pointers that the verifier vouches for stay so within the function."""
        own, wanted = pointer_of(value.type), pointer_of(parameter.type)
        if own is not None and wanted is not None:
            self.given.setdefault((function.name, parameter.name), set()).add((own.probe, own.arena))

    def declare(self) -> None:
        """Read the file's declarations, and those of the files it imports. Raises SourceError."""
        for node in self.source.tree.body:
            self._top(node)

    def run(self) -> Program:
        """Check everything. Raises SourceError."""
        self.declare()
        files = self._files()
        for file in files:
            for thing in file.own.values():
                if isinstance(thing, MapDecl):
                    declarations.resolve_values(file, thing)
                elif isinstance(thing, GlobalVar):
                    declarations.check_struct_ops(file, thing)
        declarations.arena_pointers(self.definitions())
        self._homes = {each.name: file for file in files for each in file._functions()}
        own = [each for file in files for each in file._functions()]
        for function in own:
            functions.check_signature(self._homes[function.name], function)
        self._trust()
        for _ in range(_ROUNDS):
            self.given.clear()
            for function in functions.by_calls(own, self._mentioned):
                self._homes[function.name]._check_function(function)
            if not self._settle_parameters(own):
                break
        functions.refuse_recursion(self.source, own)
        functions.refuse_deep_stacks(self.source, own, statements.STACK)
        self._collect()
        return self.program

    def _files(self) -> list[Module]:
        """The files of the program, each after those that it imports."""
        return [*self.imports.modules.values(), *([] if self in self.imports.modules.values() else [self])]

    def definitions(self) -> list[Any]:
        """What all files of the program define."""
        things = [thing for file in self._files() for thing in file.own.values()]
        return list({id(thing): thing for thing in things}.values())  # a type may have two names

    def _functions(self) -> list[Function]:
        return [each for each in self.own.values() if isinstance(each, Function)]

    def _mentioned(self, function: Function, name: str) -> Function | None:
        found = self._homes[function.name].names.get(name)
        return found if isinstance(found, Function) else None

    def _trust(self) -> None:
        """Pointers of functions that the program calls are taken to be vouched for until a call says otherwise."""
        called = {
            id(file.names.get(each.func.id))
            for file in self._files()
            for each in ast.walk(file.source.tree)
            if isinstance(each, ast.Call) and isinstance(each.func, ast.Name)
        }
        for function in [each for file in self._files() for each in file._functions()]:
            if function.kind in ("inline", "subprogram") and id(function) in called:
                for parameter in function.parameters:
                    parameter.type = _trusted(parameter.type)
                function.returns = _trusted(function.returns)

    def _settle_parameters(self, own: list[Function]) -> bool:
        changed = False
        for function in own:
            if function.kind in ("program", "c"):
                continue
            for parameter in function.parameters:
                kind = self._settled(parameter.type, (function.name, parameter.name))
                changed |= kind is not parameter.type
                parameter.type = kind
            returns = self._settled(function.returns, (function.name, "return"))
            changed |= returns is not function.returns
            function.returns = returns
        return changed

    def _settled(self, kind: Type, where: tuple[str, str]) -> Type:
        """A pointer's type, as those that reach a place have it."""
        own, kinds = pointer_of(kind), self.given.get(where)
        if own is None or not kinds:
            return kind
        found = Ptr(own.target, any(p for p, _ in kinds), all(a for _, a in kinds))
        if (found.probe, found.arena) == (own.probe, own.arena):
            return kind
        return Opt(found) if isinstance(kind, Opt) else found

    def _top(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return
        if isinstance(node, ast.Import | ast.ImportFrom):
            self._import(node)
        elif isinstance(node, ast.If):
            self._conditional(node)
        elif isinstance(node, ast.ClassDef):
            declarations.class_definition(self, node)
        elif isinstance(node, ast.AnnAssign):
            declarations.annotated(self, node)
        elif isinstance(node, ast.Assign):
            declarations.assigned(self, node)
        elif isinstance(node, ast.FunctionDef):
            functions.declare(self, node)
        elif not isinstance(node, ast.Pass):
            if isinstance(node, ast.Expr):
                self.source.fail(
                    node, "a module declares types, maps, variables and functions; what runs stands in functions"
                )
            self.source.fail(
                node,
                self.refusal(node)
                if not isinstance(node, ast.For | ast.While | ast.With)
                else "what runs stands in functions",
            )

    def _import(self, node: ast.Import | ast.ImportFrom, stub: bool = False) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name == "bpf2py.lang":
                    self.aliases.add(alias.asname or "bpf2py")
                elif path := self.imports.find(self, node, alias.name, 0):
                    bind_module(self, alias.asname or alias.name, self.imports.take(self, node, path))
            return
        if not stub and node.module not in _KNOWN_MODULES and self._from(node):
            return
        kernel = node.module == "bpf2py.lang.kernel" or (
            stub and node.module not in _KNOWN_MODULES and node.module != "bpf2py.lang"
        )
        if not kernel:
            return
        for alias in node.names:
            if alias.name == "*":
                continue
            names = (alias.name, f"{alias.name}_impl")  # some functions are reached by a macro of this name
            known = any(self.kernel.knows(name) or self.kernel.named(name) is not None for name in names)
            if not known and node.module == "bpf2py.lang.kernel" and self.kernel_constant(alias.name) is None:
                self.source.fail(
                    alias, f"the running kernel has no {alias.name!r}: neither a type, nor a constant, nor a function"
                )
            self.imported[alias.asname or alias.name] = alias.name

    def _from(self, node: ast.ImportFrom) -> bool:
        """``from .whom import is_wanted``, ``from . import whom``; False where nothing of it is a program's."""
        name = node.module or ""
        if name.startswith("bpf2py.lang") and name != PYTHON_STACKS:
            return False
        path = self.imports.find(self, node, name, node.level)
        found = self.imports.take(self, node, path) if path is not None else None
        known = {*found.names, *found.imported, "*"} if found is not None else set()
        names = []
        for alias in node.names:
            inner = f"{name}.{alias.name}".lstrip(".")
            path = None
            if alias.name not in known and alias.name != "*":
                path = self.imports.find(self, node, inner, node.level, optional=True)
            if path is not None:
                bind_module(self, alias.asname or alias.name, self.imports.take(self, node, path))
            else:
                names.append(alias)
        if found is not None:
            bind_names(self, node, names, found)
        else:
            self.foreign.update({each.asname or each.name: name or "." for each in names})
        return found is not None or len(names) < len(node.names)

    def _conditional(self, node: ast.If) -> None:
        test = node.test
        if (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
            isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
        ):
            for each in node.body:
                if isinstance(each, ast.Import | ast.ImportFrom):
                    self._import(each, stub=True)
            for each in node.orelse:
                self._top(each)
            return
        if isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) and test.left.id == "__name__":
            return  # what the file does when it is run as a script
        self.source.fail(node, 'a module has no conditions but `if TYPE_CHECKING:` and `if __name__ == "__main__":`')

    def define(self, name: str, thing: Any, node: ast.AST) -> None:
        """Give a name its meaning. Raises SourceError when it has one."""
        if name in self.names:
            self.source.fail(node, f"the module has a {name!r} already")
        if not name.isascii():
            self.source.fail(node, "names are ASCII here: the kernel takes no others")
        if name.startswith("__"):
            self.source.fail(node, "names that begin with two underscores are the compiler's")
        self.names[name] = self.own[name] = thing
        if getattr(thing, "name", "") == name and not (isinstance(thing, Struct) and thing.kernel):
            self._name(name, thing, node)

    def _name(self, name: str, thing: Any, node: ast.AST) -> None:
        """See that what is part of the object has a name of its own there."""
        other = self._taken.setdefault(name, self)
        if other is self:
            return
        if isinstance(thing, Struct | EnumType) or (
            isinstance(thing, Function) and thing.kind in ("inline", "subprogram")
        ):
            thing.name = f"{_INNER.sub('_', os.path.basename(self.source.path).removesuffix('.py'))}_{PREFIX}{name}"
            self._name(thing.name, thing, node)
            return
        self.source.fail(
            node,
            f"{other.source.path} defines {name!r}, too: maps, variables and programs have names of their own in an object",
        )

    def bind(self, name: str, thing: object, node: ast.AST) -> None:
        """Give an imported thing its name in this file. Raises SourceError when that means something else."""
        known = self.names.setdefault(name, thing)
        if known is not thing and not (isinstance(thing, int | bytes) and known == thing):
            self.source.fail(
                node, f"{name!r} has a meaning already: import it under another, as in import {name} as other_{name}"
            )

    def _check_function(self, function: Function) -> None:
        if function.kind == "c":
            return
        checker = Checker(self, function)
        for _ in range(_ROUNDS):
            self._round(checker)
            if not checker.changed:
                open_types: dict[Type, Type] = {LITERAL: S64, NONE: Opt(Ptr(VOID))}
                left = [name for name, kind in checker.types.items() if kind in open_types]
                if not left:
                    return
                for name in left:
                    checker.types[name] = open_types[checker.types[name]]
        self.source.fail(
            function.node,
            f"the types of {function.name}'s variables depend on each other: annotate them, as in x: u64 = 0",
        )

    def _round(self, checker: Checker) -> None:
        function = checker.function
        function.calls, function.direct = set(), set()
        function.gives, function.passes, function.helper, function.stack = None, None, "", 0
        checker.begin()
        body = statements.block(checker, function.node.body)
        if not checker.flow.dead:
            references.check_end(checker, function.node.body[-1])
            if function.returns != VOID:
                self.source.fail(
                    function.node.body[-1],
                    f"{function.name} may end here without a value: write return 0 (or what it should be) for this way, too",
                )
        for local, value in reversed(checker.hoisted.values()):
            body.statements.insert(0, Assign(function.node.lineno, Var(local.type, local), value))
        function.body = body

    def _collect(self) -> None:
        program = self.program
        for thing in self.definitions():
            if isinstance(thing, Struct) and not thing.kernel:
                program.structs.append(thing)
            elif isinstance(thing, EnumType):
                program.enums[thing.name] = thing.members
            elif isinstance(thing, GlobalVar):
                program.globals.append(thing)
            elif isinstance(thing, MapDecl):
                program.maps.append(thing)
        license = self.names.get("LICENSE")
        if isinstance(license, bytes):
            program.license = license.decode()
        program.functions = functions.in_order([each for file in self._files() for each in file._functions()])


def pointer_of(kind: Type) -> Ptr | None:
    """The pointer of a type that is one, or None."""
    kind = kind.pointer if isinstance(kind, Opt) else kind
    return kind if isinstance(kind, Ptr) else None


def _trusted(kind: Type) -> Type:
    own = pointer_of(kind)
    if own is None:
        return kind
    trusted = Ptr(own.target, arena=own.arena)
    return Opt(trusted) if isinstance(kind, Opt) else trusted


def check(source: Source, kernel: KernelTypes) -> Module:
    """The typed tree of a program, as its module's `program`. Raises SourceError."""
    module = Module(source, kernel)
    try:
        module.run()
    except RecursionError:
        source.fail_at(1, "this program is nested too deeply")
    return module
