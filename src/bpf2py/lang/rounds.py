"""A program is checked: the bodies of its functions, in rounds, until all types are known."""

from __future__ import annotations

import ast

from bpf2py.lang import calls, declarations, expressions, functions, loops, reading, references, statements
from bpf2py.lang.kernel_types import KernelTypes
from bpf2py.lang.module import Module
from bpf2py.lang.names import EnumType
from bpf2py.lang.scope import Checker
from bpf2py.lang.source import Source
from bpf2py.lang.tree import Assign, Function, GlobalVar, MapDecl, Program, Var
from bpf2py.lang.types import LITERAL, NONE, S64, VOID, Opt, Ptr, Struct, Type, pointer_of

__all__ = ["check"]

_ROUNDS = 12
Checker.expressions |= {**expressions.EXPRESSIONS, ast.Call: calls.call}
statements.STATEMENTS.update(loops.LOOPS)


class _Check:
    """The check of a program, of which all files have been read.

    Attributes:
        files: its files, each after those that it imports.
        homes: the files of the functions, by the functions' names.
    """

    def __init__(self, module: Module) -> None:
        self.module = module
        self.files = module.files()
        self.homes = {each.name: file for file in self.files for each in file.functions()}
        self.functions = [each for file in self.files for each in file.functions()]

    def run(self) -> Program:
        """Check everything. Raises SourceError."""
        for file in self.files:
            for thing in file.own.values():
                if isinstance(thing, MapDecl):
                    declarations.resolve_values(file, thing)
                elif isinstance(thing, GlobalVar):
                    declarations.check_struct_ops(file, thing)
        declarations.arena_pointers(self.module.definitions())
        for function in self.functions:
            functions.check_signature(self.homes[function.name], function)
        self._trust()
        for _ in range(_ROUNDS):
            self.module.given.clear()
            for function in functions.by_calls(self.functions, self._mentioned):
                self._check_function(function)
            if not self._settle_parameters(self.functions):
                break
        functions.refuse_recursion(self.module.source, self.functions)
        functions.refuse_deep_stacks(self.module.source, self.functions, statements.STACK)
        self._collect()
        return self.module.program

    def _mentioned(self, function: Function, name: str) -> Function | None:
        found = self.homes[function.name].names.get(name)
        return found if isinstance(found, Function) else None

    def _trust(self) -> None:
        """Pointers of functions that the program calls are taken to be vouched for until a call says otherwise."""
        called = {
            id(file.names.get(each.func.id))
            for file in self.files
            for each in ast.walk(file.source.tree)
            if isinstance(each, ast.Call) and isinstance(each.func, ast.Name)
        }
        for function in self.functions:
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
        own, kinds = pointer_of(kind), self.module.given.get(where)
        if own is None or not kinds:
            return kind
        found = Ptr(own.target, any(p for p, _ in kinds), all(a for _, a in kinds))
        if (found.probe, found.arena) == (own.probe, own.arena):
            return kind
        return Opt(found) if isinstance(kind, Opt) else found

    def _check_function(self, function: Function) -> None:
        if function.kind == "c":
            return
        checker = Checker(self.homes[function.name], function)
        for _ in range(_ROUNDS):
            self._round(checker)
            if not checker.changed:
                open_types: dict[Type, Type] = {LITERAL: S64, NONE: Opt(Ptr(VOID))}
                left = [name for name, kind in checker.types.items() if kind in open_types]
                if not left:
                    return
                for name in left:
                    checker.types[name] = open_types[checker.types[name]]
        checker.fail(
            function.node,
            f"the types of {function.name}'s variables depend on each other: annotate them, as in x: u64 = 0",
        )

    def _round(self, checker: Checker) -> None:
        function = checker.function
        function.calls, function.direct = set(), set()
        function.gives, function.passes, function.helper, function.stack = None, None, "", 0
        checker.begin()
        references.parameters(checker)
        body = statements.block(checker, function.node.body)
        if not checker.flow.dead:
            references.check_end(checker, function.node.body[-1])
            if function.returns != VOID:
                checker.fail(
                    function.node.body[-1],
                    f"{function.name} may end here without a value: write return 0 (or what it should be) for this way, too",
                )
        for local, value in reversed(checker.hoisted.values()):
            body.statements.insert(0, Assign(function.node.lineno, Var(local.type, local), value))
        function.body = body

    def _collect(self) -> None:
        program = self.module.program
        for thing in self.module.definitions():
            if isinstance(thing, Struct) and not thing.kernel:
                program.structs.append(thing)
            elif isinstance(thing, EnumType):
                program.enums[thing.name] = thing.members
            elif isinstance(thing, GlobalVar):
                program.globals.append(thing)
            elif isinstance(thing, MapDecl):
                program.maps.append(thing)
        license = self.module.names.get("LICENSE")
        if isinstance(license, bytes):
            program.license = license.decode()
        program.functions = functions.in_order(self.functions)


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
        reading.read(module)
        _Check(module).run()
    except RecursionError:
        source.fail_at(1, "this program is nested too deeply")
    return module
