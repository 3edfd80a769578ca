"""Programs of several files: which file an import means.

A file takes in another by Python's own statements, and the search is Python's: a relative import looks beside the file, an
absolute one in the program's directory and then in `sys.path`. Nothing is executed to find out. A file that does not import
``bpf2py.lang`` is left to Python: it serves the rest of the script.
"""

from __future__ import annotations

import ast
import os
import sys

from bpf2py.lang.source import Source, did_you_mean
from bpf2py.user_cache import read_file

__all__ = ["PYTHON_STACKS", "Imports"]

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PYTHON_STACKS = "bpf2py.lang.python"  # the one file of the language's own folder that is a program's
_LANGUAGE = b"bpf2py.lang"


class Imports:
    """The search for the files of one program.

    Attributes:
        files: the paths that were read, but the program's own.
        absent: paths where a file would have been taken instead.
        searched: whether `sys.path` was asked.
    """

    def __init__(self, path: str) -> None:
        self.directory = os.path.dirname(os.path.abspath(path))
        self.files: list[str] = []
        self.absent: list[str] = []
        self.searched = False
        self.open: list[str] = [os.path.realpath(path)]
        self._texts: dict[str, bytes | None] = {}

    def find(
        self, source: Source, node: ast.Import | ast.ImportFrom, name: str, level: int, optional: bool = False
    ) -> str | None:
        """The file of a module; None where it is not a program's. Raises SourceError for a relative import of what is not there."""
        parts = name.split(".") if name else []
        if level:
            base = os.path.dirname(os.path.abspath(source.path))
            for _ in range(level - 1):
                base = os.path.dirname(base)
            found = self._below(base, parts)
            if found is None and parts and not optional and not _is_there(base, parts):
                source.fail(node, f"there is no {os.path.join(base, *parts)}.py{_near(base, parts)}")
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

    def text(self, path: str) -> bytes:
        """What a file that was found holds; nothing where it is gone."""
        return self._texts[path] or b""


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
