"""The hatchling build hook: a project's modules are generated when it is built or installed.

Imported by hatchling, through the entry point of this package; nothing else imports it, so hatchling is not a dependency.

    [[tool.hatch.build.hooks.bpf2py.modules]]
    ident = "counter"
    source = "src/bpf/counter.bpf.c"
    output-dir = "src/project"
"""

from __future__ import annotations

import os
import re
import shlex
import zipfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.plugin import hookimpl

from bpf2py.codegen.build import Request, produce, stale, write
from bpf2py.errors import BpfError

TABLE = "tool.hatch.build.hooks.bpf2py"
# Options of a module by their types; of those of `bpf2py gen` only --check and --makebase have no meaning here.
_STRINGS = ("ident", "source", "output-dir", "output-stem", "target", "cc")
_LISTS = ("cflags", "types")
_FLAGS = ("embed", "strip", "global-types")
_PATHS = ("source", "output-dir")
_OF_HATCHLING = ("dependencies", "require-runtime-dependencies", "require-runtime-features", "enable-by-default")


def requests(config: dict[str, Any], root: Path) -> list[Request]:
    """What the hook's table asks for. Raises BpfError, which names the entry and the option."""
    unknown = [key for key in config if key not in ("modules", *_OF_HATCHLING)]
    if unknown:
        raise BpfError(f"{TABLE}: unknown option {unknown[0]!r}; the modules are tables [[{TABLE}.modules]]")
    modules = config.get("modules", [])
    if not isinstance(modules, list) or not all(isinstance(entry, dict) for entry in modules):
        raise BpfError(f"{TABLE}.modules: must be an array of tables, [[{TABLE}.modules]]")
    if not modules:
        raise BpfError(f"{TABLE}: no module is asked for: add a table [[{TABLE}.modules]] with ident and source")
    found = []
    for number, entry in enumerate(modules, 1):
        try:
            found.append(_request(entry, root))
        except BpfError as error:
            raise BpfError(f"{_name(entry, number)}: {error}") from None
    outputs = [path for request in found for path in request.outputs]
    twice = [path for path in outputs if outputs.count(path) > 1]
    if twice:
        raise BpfError(f"{TABLE}.modules: two entries write {os.path.relpath(twice[0], root)}")
    return found


def _name(entry: dict[str, Any], number: int) -> str:
    """How errors name an entry."""
    ident = entry.get("ident")
    return f"{TABLE}.modules: {ident}" if isinstance(ident, str) and ident else f"{TABLE}.modules: entry {number}"


def _request(entry: dict[str, Any], root: Path) -> Request:
    for key in ("ident", "source"):
        if key not in entry:
            raise BpfError(f"option {key!r} is missing")
    given: dict[str, Any] = {}
    for key, value in entry.items():
        attribute = key.replace("-", "_")
        if key in _STRINGS:
            if not isinstance(value, str) or not value:
                raise BpfError(f"option {key!r} must be a string, is {value!r}")
            given[attribute] = root / value if key in _PATHS else value
        elif key in _LISTS:
            if isinstance(value, str):  # as BPF2PY_CFLAGS has them
                value = shlex.split(value)
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise BpfError(f"option {key!r} must be an array of strings, is {value!r}")
            given[attribute] = tuple(value)
        elif key in _FLAGS:
            if not isinstance(value, bool):
                raise BpfError(f"option {key!r} must be true or false, is {value!r}")
            given[attribute] = value
        else:
            known = ", ".join((*_STRINGS, *_LISTS, *_FLAGS))
            raise BpfError(f"unknown option {key!r}; there are {known}")
    given.setdefault("output_dir", root)
    request = Request(**given)
    _ = request.stem  # says whether ident and target can be
    if not request.output_dir.resolve().is_relative_to(root.resolve()):
        raise BpfError(f"output-dir {entry['output-dir']} lies outside the project")
    return request


class GenerateHook(BuildHookInterface):  # type: ignore[type-arg]
    """Generates before a wheel is built or the project is installed in editable mode; a source distribution needs none."""

    PLUGIN_NAME = "bpf2py"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write what is out of date, and have it in the wheel though version control ignores it."""
        if self.target_name != "wheel":
            return
        for request in self._requests():
            try:
                files = produce(request)
                write(files, stale(files))
            except (BpfError, OSError) as error:
                self._fail(f"{TABLE}.modules: {request.ident}: {error}")
            # Patterns, as in .gitignore.
            build_data["artifacts"] += [
                re.sub(r"([\\*?\[\]!# ])", r"\\\1", f"/{path}") for path in map(self._inside, files)
            ]

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """A wheel without the modules would only fail where it is installed."""
        if self.target_name != "wheel" or version != "standard":
            return
        with zipfile.ZipFile(artifact_path) as wheel:
            names = set(wheel.namelist())
        for request in self._requests():
            for path in map(self._inside, request.outputs):
                if self.build_config.get_distribution_path(path).replace(os.sep, "/") not in names:
                    os.unlink(artifact_path)
                    self._fail(
                        f"{TABLE}.modules: {request.ident}: {path} is not in the wheel; "
                        "output-dir must lie in one of its packages"
                    )

    def clean(self, versions: list[str]) -> None:
        """Remove what `initialize` writes."""
        if self.target_name == "wheel":
            for request in self._requests():
                for path in request.outputs:
                    path.unlink(missing_ok=True)

    def _requests(self) -> list[Request]:
        try:
            return requests(self.config, Path(self.root))
        except BpfError as error:
            self._fail(str(error))
            raise

    def _inside(self, path: Path) -> str:
        return os.path.relpath(path, self.root).replace(os.sep, "/")

    def _fail(self, message: str) -> None:
        self.app.abort(f"bpf2py: {message}")


@hookimpl
def hatch_register_build_hook() -> type[GenerateHook]:
    """What hatchling calls."""
    return GenerateHook
