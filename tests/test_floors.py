"""The rooms of the package: lower floors never import higher ones."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import bpf2py

ROOT = Path(bpf2py.__file__).parent
FLOORS = {
    "errors": 0, "owned": 0, "shared_memory": 0, "user_cache": 0, "printable": 0, "processes": 0, "_lazy": 0, "_typing": 0,
    "machine_code": 0, "isa": 0, "btf": 0, "uapi": 0, "elf": 0,
    "spec": 1, "linker": 1, "toolchain": 1, "include": 1, "seam": 1,
    "kernel": 2, "engine": 2, "symbols": 2,
    "maps": 3, "readers": 3, "features": 3, "object": 3, "loader": 3, "programs": 3, "variables": 3, "loading": 3, "backends": 3,
    "__init__": 3, "signing": 3,
    "codegen": 4, "lang": 4, "lab": 4, "values": 4, "generated": 4,
    "cli": 5, "export": 5, "testing": 5, "tools": 5, "__main__": 5,
}  # fmt: skip


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> Iterator[str]:
    """The rooms a file imports from."""
    for node in ast.walk(parsed(path)):
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
            if FLOORS.get(target, 0) > FLOORS[room]:
                wrong.append(f"{relative} (floor {FLOORS[room]}) imports {target} (floor {FLOORS[target]})")
    assert not wrong, "\n".join(wrong)


def test_the_backends_do_not_know_each_other() -> None:
    for room, other in (("kernel", "engine"), ("engine", "kernel")):
        for path in sorted((ROOT / room).rglob("*.py")):
            assert other not in set(imports(path)), path


def test_the_engine_is_built_in_storeys() -> None:
    """Code knows no maps, helpers or programs; maps know no programs."""
    storeys = {
        "code": {"code", "memory"},
        "maps": {"maps", "code", "memory", "system", "refusals", "sockets"},
    }
    for storey, allowed in storeys.items():
        for path in sorted((ROOT / "engine" / storey).rglob("*.py")):
            for node in ast.walk(parsed(path)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bpf2py.engine."):
                    used = str(node.module).split(".")[2]
                    assert used in allowed, f"{path.relative_to(ROOT)} imports engine.{used}"


def test_every_room_has_a_floor() -> None:
    rooms = {p.name.removesuffix(".py") for p in ROOT.iterdir() if p.suffix == ".py" or p.is_dir()}
    assert rooms - {"__pycache__", "py.typed"} <= set(FLOORS)


def test_files_stay_readable() -> None:
    long = {str(p.relative_to(ROOT)): n for p in ROOT.rglob("*.py") if (n := len(p.read_text().splitlines())) > 620}
    allowed = {"isa/helpers.py", "uapi/sections.py"}  # tables
    assert set(long) <= allowed, f"over 620 lines: {long}"


@cache
def modules() -> dict[str, Path]:
    found = {}
    for path in ROOT.rglob("*.py"):
        name = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


@cache
def imported(path: Path) -> set[str]:
    """Modules of the package a file imports, wherever in it and for whomever."""
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("bpf2py"):
            for name in node.names:
                full = f"{node.module}.{name.name}"
                found.add(full if full in modules() else node.module)
        elif isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
    return found & set(modules())


def circles(edges: Mapping[str, set[str]]) -> list[tuple[str, ...]]:
    """Groups of modules that reach one another."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        pending = [start]
        while pending:
            for each in edges[pending.pop()] - seen:
                seen.add(each)
                pending.append(each)
        return seen

    all_reached = {name: reached(name) for name in edges}
    return sorted({tuple(sorted(o for o in r if n in all_reached[o])) for n, r in all_reached.items() if n in r})


def test_imports_do_not_go_round() -> None:
    """Not at module level, nor inside functions, nor for type checkers alone."""
    assert circles({name: imported(path) - {name} for name, path in modules().items()}) == []


def test_only_backends_names_a_backend() -> None:
    """Above the seam: the API does not know which it has. Features, symbols and the machine's metrics are the running kernel's."""
    for name, path in modules().items():
        room = name.removeprefix("bpf2py.").split(".")[0]
        if (
            room in ("kernel", "engine", "backends", "cli", "testing", "tools", "features", "export")
            or name == "bpf2py"
        ):
            continue
        used = imported(path)
        assert not [each for each in used if each.startswith(("bpf2py.kernel", "bpf2py.engine"))], name


def test_the_picture_of_the_rooms_is_fresh() -> None:
    root = Path(__file__).parent.parent
    drawn = subprocess.run(
        [sys.executable, "-c", "import draw_rooms; print(draw_rooms.draw(), end='')"],
        cwd=root / "tools",
        capture_output=True,
        text=True,
        check=True,
    )
    assert drawn.stdout == (root / "docs/contributing/rooms.svg").read_text(), "python tools/draw_rooms.py rewrites it"


def functions(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Those defined in a module or class, also below an ``if``."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        elif isinstance(node, ast.If):
            yield from functions([*node.body, *node.orelse])


def is_overload(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(isinstance(each, ast.Name) and each.id == "overload" for each in function.decorator_list)


def any_in(path: Path) -> Iterator[str]:
    """Parameters and results of type Any of functions that are not private, as type checkers of users see them."""
    for owner in ast.walk(parsed(path)):
        if not isinstance(owner, ast.Module | ast.ClassDef):
            continue
        found = list(functions(owner.body))
        overloaded = {function.name for function in found if is_overload(function)}
        for function in found:
            if function.name.startswith("_") and not function.name.startswith("__"):
                continue
            if function.name in overloaded and not is_overload(function):
                continue
            given = function.args
            named = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
            annotations = [argument.annotation for argument in named if argument is not None] + [function.returns]
            count = sum(isinstance(each, ast.Name) and each.id == "Any" for each in annotations)
            yield from [f"{path.relative_to(ROOT)}: {function.name}"] * count


# Why the rest cannot say more. The command line is a program: nobody imports it; `bpf2py.lang` has a type system of its own, which
# checkers of Python cannot express in full.
ANY = {
    "__init__.py: __getattr__": "any public name",
    "btf/structs.py: plain": "any value of a BTF type",
    "btf/structs.py: __getitem__": "a member's type follows from BTF",
    "codegen/runtime.py: __get__": "any codec",
    "engine/code/native.py: translator_class": "code of one translator or the other",
    "engine/system.py: provide": "code of one translator or the other",
    "engine/system.py: gone": "code of one translator or the other",
    "engine/code/python.py: numbered": "generated Python code",
    "kernel/attach/__init__.py: required": "the type of an option follows from its name",
    "kernel/syscall.py: libc": "ctypes: any function of the library",
    "kernel/syscall.py: quick_libc": "ctypes: any function of the library",
    "kernel/syscall.py: address": "what has a buffer: Python 3.11 has no type for it",
    "maps/array.py: to_arrow": "pyarrow has no types",
    "maps/mapping.py: to_arrow": "pyarrow has no types",
    "maps/arrow.py: table": "pyarrow has no types",
    "maps/frames.py: to_pandas": "pandas is not there for type checkers",
    "maps/frames.py: to_polars": "polars is not there for type checkers",
    "maps/fd_values.py: setdefault": "what is read is not what was written",
    "maps/fd_values.py: pop": "what is read is not what was written",
    "maps/lpm.py: decode": "an IPv4 or IPv6 network or interface, or a pair, by size and bits",
    "maps/percpu.py: lookup_cpu": "the families' type parameters differ",
    "spec/object_spec.py: load": "former name, for one release",
    "spec/variable_spec.py: value": "any value of a BTF type",
    "testing/plugin.py: run": "members of the program's context",
    "testing/plugin.py: __getattr__": "any public name of the package",
    "uapi/attach_options.py: parse_option": "the type of an option follows from its name",
    "variables.py: value": "any value of a BTF type",
}


def test_any_is_rare_and_has_a_reason() -> None:
    found = [
        name for path in sorted(ROOT.rglob("*.py")) for name in any_in(path) if not name.startswith(("cli/", "lang/"))
    ]
    assert set(found) <= set(ANY), set(found) - set(ANY)
    assert set(ANY) <= set(found), "no longer needed"
    assert len(found) <= 30


def test_imports_inside_functions_are_few() -> None:
    """Of the package's own modules: each is for start-up, and there is little more to be had by it."""
    late = set()
    for path in ROOT.rglob("*.py"):
        for function in ast.walk(parsed(path)):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bpf2py"):
                        late.add((path, node.lineno))
    assert len(late) < 100, len(late)
