"""Programs of several files: which file an import means, and what its names become in the file that imports them.

A file takes in another by Python's own statements, and the search is Python's: a relative import looks beside the file, an
absolute one in the program's directory and then in `sys.path`. Nothing is executed to find out. What is imported is part of the
object whole, its maps, variables and programs included, as an import runs the whole file in Python. A file that does not import
``bpf2py.lang`` is left to Python: it serves the rest of the script.
"""

from __future__ import annotations

import ast
import os
import sys
from typing import TYPE_CHECKING

from bpf2py.lang.source import Source, decoded, did_you_mean
from bpf2py.lang.tree import GlobalVar, MapDecl
from bpf2py.lang.types import BOOL, Int, Opt, Ptr
from bpf2py.user_cache import read_file

if TYPE_CHECKING:
    from bpf2py.lang.module import Module

__all__ = ["PYTHON_STACKS", "Imports", "bind_module", "bind_names"]

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PYTHON_STACKS = "bpf2py.lang.python"  # the one file of the language's own folder that is a program's
_LANGUAGE = b"bpf2py.lang"


class Imports:
    """The files of one program.

    Attributes:
        modules: what has been read, by the real paths of the files; those that are imported before those that import them.
        files: the paths that were read, but the program's own.
        absent: paths where a file would have been taken instead.
        searched: whether `sys.path` was asked.
    """

    def __init__(self, path: str) -> None:
        self.directory = os.path.dirname(os.path.abspath(path))
        self.modules: dict[str, Module] = {}
        self.files: list[str] = []
        self.absent: list[str] = []
        self.searched = False
        self.open: list[str] = [os.path.realpath(path)]
        self._texts: dict[str, bytes | None] = {}

    def find(
        self, module: Module, node: ast.Import | ast.ImportFrom, name: str, level: int, optional: bool = False
    ) -> str | None:
        """The file of a module; None where it is not a program's. Raises SourceError for a relative import of what is not there."""
        parts = name.split(".") if name else []
        if level:
            base = os.path.dirname(os.path.abspath(module.source.path))
            for _ in range(level - 1):
                base = os.path.dirname(base)
            found = self._below(base, parts)
            if found is None and parts and not optional and not _is_there(base, parts):
                module.source.fail(node, f"there is no {os.path.join(base, *parts)}.py{_near(base, parts)}")
        elif parts[0] == "bpf2py":
            found = self._below(_PACKAGE, parts[1:]) if parts[1:2] != ["lang"] or name == PYTHON_STACKS else None
        elif parts[0] in sys.stdlib_module_names:
            return None
        else:
            found = self._below(self.directory, parts) or self._installed(parts)
        if found is None:
            return None
        self.files.append(found)
        if found not in self._texts:
            self._texts[found] = read_file(found)
        return found if _LANGUAGE in (self._texts[found] or b"") else None

    def _installed(self, parts: list[str]) -> str | None:
        self.searched = True
        return next((found for each in sys.path if (found := self._below(each or os.getcwd(), parts))), None)

    def _below(self, base: str, parts: list[str]) -> str | None:
        """``a/b/__init__.py`` or ``a/b.py``, as Python prefers them."""
        places = [os.path.join(base, *parts, "__init__.py")]
        places += [os.path.join(base, *parts) + ".py"] if parts else []
        for place in places:
            if os.path.isfile(place):
                return place
            self.absent.append(place)
        return None

    def take(self, module: Module, node: ast.AST, path: str) -> Module:
        """A file's module, read when it is imported for the first time. Raises SourceError."""
        real = os.path.realpath(path)
        if real in self.open:
            circle = " imports ".join(os.path.basename(each) for each in [*self.open[self.open.index(real) :], real])
            module.source.fail(node, f"files that import each other: {circle}; put what both need into a third")
        if real not in self.modules:
            text = self._texts[path] or b""
            self.open.append(real)
            found = type(module)(Source(decoded(text, path), path, module.source), module.kernel, module)
            found.declare()
            self.modules[real] = found
            self.open.pop()
        return self.modules[real]


def _is_there(base: str, parts: list[str]) -> bool:
    """Whether Python may find something else than a source: a folder, an extension module."""
    try:
        there = os.listdir(os.path.join(base, *parts[:-1]))
    except OSError:
        return False
    return any(each.partition(".")[0] == parts[-1] for each in there)


def _near(base: str, parts: list[str]) -> str:
    try:
        there = os.listdir(os.path.join(base, *parts[:-1]))
    except OSError:
        return ""
    return did_you_mean(
        parts[-1], [each.removesuffix(".py") for each in there if each.isidentifier() or each.endswith(".py")]
    )


def _exported(found: Module) -> list[str]:
    """What ``import *`` gives."""
    for node in found.source.tree.body:
        if isinstance(node, ast.Assign) and [getattr(each, "id", "") for each in node.targets] == ["__all__"]:
            try:
                return [str(each) for each in ast.literal_eval(node.value)]
            except (ValueError, TypeError):
                found.source.fail(node, "__all__ is a list of names")
    return [name for name in (*found.names, *found.imported) if name[0] != "_" and "." not in name]


def bind_names(module: Module, node: ast.ImportFrom, names: list[ast.alias], found: Module) -> None:
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


def bind_module(module: Module, name: str, found: Module) -> None:
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
