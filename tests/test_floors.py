"""The rooms of the package: lower floors never import higher ones."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import bpf2py

ROOT = Path(bpf2py.__file__).parent
FLOORS = {
    "errors": 0, "owned": 0, "shared_memory": 0, "_lazy": 0, "isa": 0, "btf": 0, "uapi": 0,
    "spec": 1, "linker": 1, "toolchain": 1, "include": 1, "seam": 1,
    "kernel": 2, "engine": 2,
    "maps": 3, "readers": 3, "features": 3, "object": 3, "programs": 3, "variables": 3, "loading": 3, "backends": 3, "__init__": 3,
    "cli": 4, "codegen": 4, "values": 4, "generated": 4, "testing": 4, "__main__": 4,
}  # fmt: skip
# Conveniences of the API that reach up when they are called, and one reader below that needs ELF.
ALLOWED = {
    ("btf/reader.py", "spec"),
    ("spec/object_spec.py", "loading"),
    ("spec/object_spec.py", "object"),
}


def imports(path: Path) -> Iterator[str]:
    """The rooms a file imports from."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("bpf2py."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.ImportFrom) and node.module == "bpf2py":
            for name in node.names:
                yield name.name
        elif isinstance(node, ast.Import):
            for name in node.names:
                if name.name.startswith("bpf2py."):
                    yield name.name.split(".")[1]


def test_lower_floors_never_import_higher_ones() -> None:
    wrong = []
    for path in sorted(ROOT.rglob("*.py")):
        relative = path.relative_to(ROOT)
        room = relative.parts[0].removesuffix(".py")
        for target in imports(path):
            if FLOORS.get(target, 0) > FLOORS[room] and (str(relative), target) not in ALLOWED:
                wrong.append(f"{relative} (floor {FLOORS[room]}) imports {target} (floor {FLOORS[target]})")
    assert not wrong, "\n".join(wrong)


def test_the_backends_do_not_know_each_other() -> None:
    for room, other in (("kernel", "engine"), ("engine", "kernel")):
        for path in sorted((ROOT / room).rglob("*.py")):
            assert other not in set(imports(path)), path


def test_every_room_has_a_floor() -> None:
    rooms = {p.name.removesuffix(".py") for p in ROOT.iterdir() if p.suffix == ".py" or p.is_dir()}
    assert rooms - {"__pycache__", "py.typed"} <= set(FLOORS)


def test_files_stay_readable() -> None:
    long = {str(p.relative_to(ROOT)): n for p in ROOT.rglob("*.py") if (n := len(p.read_text().splitlines())) > 620}
    allowed = {"isa/helpers.py", "uapi/sections.py"}  # tables
    assert set(long) <= allowed, f"over 620 lines: {long}"
