"""A module is read: its declarations in order, and those of the files that it imports.

What is imported is part of the object whole, its maps, variables and programs included, as an import runs the whole file in Python.
"""

from __future__ import annotations

import ast
import os

from bpf2py.lang import declarations, functions
from bpf2py.lang.imports import PYTHON_STACKS
from bpf2py.lang.module import Module
from bpf2py.lang.source import Source, decoded, did_you_mean
from bpf2py.lang.tree import GlobalVar, MapDecl
from bpf2py.lang.types import BOOL, Int, Opt, Ptr

__all__ = ["read"]

_KNOWN_MODULES = ("bpf2py", "typing", "enum", "__future__", "collections")


def read(module: Module) -> None:
    """Read the file's declarations, and those of the files it imports. Raises SourceError."""
    for node in module.source.tree.body:
        _top(module, node)


def _take(module: Module, node: ast.AST, path: str) -> Module:
    """A file's module, read when it is imported for the first time. Raises SourceError."""
    imports, known = module.imports, module.imported_files
    real = os.path.realpath(path)
    if real in imports.open:
        circle = " imports ".join(os.path.basename(each) for each in [*imports.open[imports.open.index(real) :], real])
        module.source.fail(node, f"files that import each other: {circle}; put what both need into a third")
    if real not in known:
        imports.open.append(real)
        found = Module(Source(decoded(imports.text(path), path), path, module.source), module.kernel, module)
        read(found)
        known[real] = found
        imports.open.pop()
    return known[real]


def _top(module: Module, node: ast.stmt) -> None:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.Import | ast.ImportFrom):
        _import(module, node)
    elif isinstance(node, ast.If):
        _conditional(module, node)
    elif isinstance(node, ast.ClassDef):
        declarations.class_definition(module, node)
    elif isinstance(node, ast.AnnAssign):
        declarations.annotated(module, node)
    elif isinstance(node, ast.Assign):
        declarations.assigned(module, node)
    elif isinstance(node, ast.FunctionDef):
        functions.declare(module, node)
    elif not isinstance(node, ast.Pass):
        if isinstance(node, ast.Expr):
            module.source.fail(
                node, "a module declares types, maps, variables and functions; what runs stands in functions"
            )
        module.source.fail(
            node,
            module.refusal(node)
            if not isinstance(node, ast.For | ast.While | ast.With)
            else "what runs stands in functions",
        )


def _import(module: Module, node: ast.Import | ast.ImportFrom, stub: bool = False) -> None:
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name == "bpf2py.lang":
                module.aliases.add(alias.asname or "bpf2py")
            elif path := module.imports.find(module.source, node, alias.name, 0):
                _bind_module(module, alias.asname or alias.name, _take(module, node, path))
        return
    if not stub and node.module not in _KNOWN_MODULES and _from(module, node):
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
        known = any(module.kernel.knows(name) or module.kernel.named(name) is not None for name in names)
        if not known and node.module == "bpf2py.lang.kernel" and module.kernel_constant(alias.name) is None:
            module.source.fail(
                alias, f"the running kernel has no {alias.name!r}: neither a type, nor a constant, nor a function"
            )
        module.imported[alias.asname or alias.name] = alias.name


def _from(module: Module, node: ast.ImportFrom) -> bool:
    """``from .whom import is_wanted``, ``from . import whom``; False where nothing of it is a program's."""
    name = node.module or ""
    if name.startswith("bpf2py.lang") and name != PYTHON_STACKS:
        return False
    path = module.imports.find(module.source, node, name, node.level)
    found = _take(module, node, path) if path is not None else None
    known = {*found.names, *found.imported, "*"} if found is not None else set()
    names = []
    for alias in node.names:
        inner = f"{name}.{alias.name}".lstrip(".")
        path = None
        if alias.name not in known and alias.name != "*":
            path = module.imports.find(module.source, node, inner, node.level, optional=True)
        if path is not None:
            _bind_module(module, alias.asname or alias.name, _take(module, node, path))
        else:
            names.append(alias)
    if found is not None:
        _bind_names(module, node, names, found)
    else:
        module.foreign.update({each.asname or each.name: name or "." for each in names})
    return found is not None or len(names) < len(node.names)


def _conditional(module: Module, node: ast.If) -> None:
    test = node.test
    if (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    ):
        for each in node.body:
            if isinstance(each, ast.Import | ast.ImportFrom):
                _import(module, each, stub=True)
        for each in node.orelse:
            _top(module, each)
        return
    if isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) and test.left.id == "__name__":
        return  # what the file does when it is run as a script
    module.source.fail(node, 'a module has no conditions but `if TYPE_CHECKING:` and `if __name__ == "__main__":`')


def _exported(found: Module) -> list[str]:
    """What ``import *`` gives."""
    for node in found.source.tree.body:
        if isinstance(node, ast.Assign) and [getattr(each, "id", "") for each in node.targets] == ["__all__"]:
            try:
                return [str(each) for each in ast.literal_eval(node.value)]
            except (ValueError, TypeError):
                found.source.fail(node, "__all__ is a list of names")
    return [name for name in (*found.names, *found.imported) if name[0] != "_" and "." not in name]


def _bind_names(module: Module, node: ast.ImportFrom, names: list[ast.alias], found: Module) -> None:
    """``from .whom import is_wanted``, ``from .whom import *``. Raises SourceError for a name that the file has not."""
    named = [(each.name, each.asname or each.name, each) for each in names]
    if node.names[0].name == "*":
        named = [(each, each, node.names[0]) for each in _exported(found)]
    for name, own, where in named:
        if name in found.names:
            thing = found.names[name]
            module.bind(own, thing, where)
            if _rebound(thing):
                module.copied[own] = _title(found)
            elif name in found.copied:
                module.copied[own] = found.copied[name]
        elif name in found.imported:
            module.imported[own] = found.imported[name]
        else:
            file = os.path.basename(found.source.path)
            module.source.fail(where, f"{file} has no {name!r}{did_you_mean(name, [*found.names, *found.imported])}")


def _bind_module(module: Module, name: str, found: Module) -> None:
    """``from . import whom``: what the file defines is reached as ``whom.is_wanted``."""
    for each, thing in found.own.items():
        module.names[f"{name}.{each}"] = thing
        if isinstance(thing, GlobalVar) or (isinstance(thing, MapDecl) and thing.single):
            module.qualified.add(f"{name}.{each}")
    reader = _Qualified(module, name, found)
    module.readers.append(reader)
    reader.visit(module.source.tree)


def _title(found: Module) -> str:
    name = os.path.basename(found.source.path).removesuffix(".py")
    return name if name != "__init__" else os.path.basename(os.path.dirname(found.source.path))


def _rebound(thing: object) -> bool:
    """Whether an assignment gives a name of this another value, which names imported in Python would not see."""
    if isinstance(thing, MapDecl):
        return thing.single and isinstance(thing.value, Int)
    if not isinstance(thing, GlobalVar) or thing.const or thing.section:
        return False
    return isinstance(thing.type, Int | Ptr | Opt) or thing.type == BOOL


class _Qualified(ast.NodeTransformer):
    """Makes one name of ``whom.is_wanted``, for all that looks names up."""

    def __init__(self, module: Module, name: str, found: Module) -> None:
        self.module = module
        self.name = name
        self.found = found

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        own = {each.arg for each in ast.walk(node) if isinstance(each, ast.arg)}
        own |= {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
        return node if self.name.partition(".")[0] in own else self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if ast.unparse(node.value) != self.name:
            return self.generic_visit(node)
        if node.attr not in self.found.own:
            file = os.path.basename(self.found.source.path)
            self.module.source.fail(node, f"{file} has no {node.attr!r}{did_you_mean(node.attr, self.found.own)}")
        return ast.copy_location(ast.Name(f"{self.name}.{node.attr}", node.ctx), node)
