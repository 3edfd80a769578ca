"""A module: its declarations in order, then the bodies of its functions, checked until all types are known."""

from __future__ import annotations

import ast
from typing import Any

from bpf2py.lang import calls, declarations, expressions, functions, loops, map_methods, references, statements
from bpf2py.lang.helper_calls import argument
from bpf2py.lang.kernel_types import KernelTypes
from bpf2py.lang.names import EnumType, Names
from bpf2py.lang.scope import Checker
from bpf2py.lang.source import Source
from bpf2py.lang.tree import Assign, Expr, Function, GlobalVar, Local, MapDecl, Program, Var
from bpf2py.lang.types import LITERAL, NONE, S64, VOID, Opt, Ptr, Struct, Type

__all__ = ["Module", "check"]

_ROUNDS = 12
Checker.expressions |= {**expressions.EXPRESSIONS, ast.Call: calls.call}
statements.STATEMENTS.update(loops.LOOPS)
_KNOWN_MODULES = ("bpf2py", "typing", "enum", "__future__", "collections")


class Module(Names):
    """The module that is being checked."""

    def __init__(self, source: Source, kernel: KernelTypes) -> None:
        super().__init__(source, kernel)
        self.given: dict[tuple[str, str], set[tuple[bool, bool]]] = {}

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

    def run(self) -> Program:
        """Check everything. Raises SourceError."""
        for node in self.source.tree.body:
            self._top(node)
        for thing in list(self.names.values()):
            if isinstance(thing, MapDecl):
                declarations.resolve_values(self, thing)
            elif isinstance(thing, GlobalVar):
                declarations.check_struct_ops(self, thing)
        declarations.arena_pointers(self)
        for function in self._functions():
            functions.check_signature(self, function)
        self._trust()
        for _ in range(_ROUNDS):
            self.given.clear()
            for function in functions.by_calls(self._functions()):
                self._check_function(function)
            if not self._settle_parameters():
                break
        functions.refuse_recursion(self.source, self._functions())
        functions.refuse_deep_stacks(self.source, self._functions(), statements.STACK)
        self._collect()
        return self.program

    def _functions(self) -> list[Function]:
        return [each for each in self.names.values() if isinstance(each, Function)]

    def _trust(self) -> None:
        """Pointers of functions that the module calls are taken to be vouched for until a call says otherwise."""
        called = {
            each.func.id
            for each in ast.walk(self.source.tree)
            if isinstance(each, ast.Call) and isinstance(each.func, ast.Name)
        }
        for function in self._functions():
            if function.kind in ("inline", "subprogram") and function.name in called:
                for parameter in function.parameters:
                    parameter.type = _trusted(parameter.type)
                function.returns = _trusted(function.returns)

    def _settle_parameters(self) -> bool:
        changed = False
        for function in self._functions():
            if function.kind == "program":
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
        self.names[name] = thing

    def _check_function(self, function: Function) -> None:
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
        for name, thing in self.names.items():
            if isinstance(thing, Struct) and not thing.kernel:
                program.structs.append(thing)
            elif isinstance(thing, EnumType):
                program.enums[name] = thing.members
            elif isinstance(thing, GlobalVar):
                program.globals.append(thing)
            elif isinstance(thing, MapDecl):
                program.maps.append(thing)
            elif name == "LICENSE" and isinstance(thing, bytes):
                program.license = thing.decode()
        program.functions = functions.in_order(self._functions())


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
