"""Command lines are read without typer as typer reads them, or left to it."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from typer.main import get_command

from bpf2py.cli import COMMANDS, build, declare, declared

PLAIN = [
    "tool execsnoop",
    "tool syscount --top 3 -p 1 --json -- ls -l",
    "tool funccount libc:malloc --duration 2 -- ls",
    "map list",
    "map list -l --json",
    "map show counts",
    "map get counts 5 --json",
    "map set counts --create 5 6",
    "map set counts -- -5 -6",
    "map watch counts --interval 0.5 --count=3 --rows 7",
    "map export counts out.json",
    "map dump counts --parquet x.parquet --per-cpu",
    "map dump counts --parquet=",
    "map create /sys/fs/bpf/m --type hash --max-entries 0",
    "events ring --type event --count 3",
    "prog list",
    "prog list --json --json",
    "prog attach 5 xdp /sys/fs/bpf/x -o a=1 --option b=2",
    "link detach 7",
    "btf dump --prog 3 --root a --root b",
    "run file.c",
    "run file.c --no-live --duration 3 -- make -j2 --json",
    "run -e TEXT --map a --map b",
    "run - --interval 2",
    "gen counter counter.bpf.c --output-dir out --no-strip -- -O3 -Dx",
    "vmlinux --root task_struct",
    "examples",
    "new name --directory there",
    "trace --count 1",
    "doctor",
]
LEFT = [
    "map",
    "map list --help",
    "map list -h",
    "map lists",
    "map list more",
    "map list --lo",
    "map list --long=1",
    "map list -lx",
    "map get counts -5",
    "map get counts",
    "map get counts 5 6",
    "map watch counts --interval 0.01",
    "map watch counts --interval nan",
    "map watch counts --rows x",
    "map watch counts --rows",
    "map watch counts --rows -1",
    "map watch counts --rows --json",
    "run --file",
    "prog attach 5 /sys/fs/bpf/x -oa=1",
    "nonsense",
]


def by_typer(words: list[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What typer gives the function of a command."""
    given: list[dict[str, Any]] = []
    made = declared._with_defaults

    def recorder(function: Callable[..., object]) -> Callable[..., object]:
        def record(**parameters: Any) -> None:
            given.append(parameters)

        like = made(function)
        record.__signature__ = inspect.signature(like)  # type: ignore[attr-defined]
        record.__annotations__ = like.__annotations__
        record.__name__ = function.__name__
        return record

    monkeypatch.setattr(declared, "_with_defaults", recorder)
    get_command(build(words[:1]))(words, standalone_mode=False)
    return given[0]


@pytest.mark.parametrize("line", PLAIN)
def test_plain_lines_mean_what_typer_reads(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = line.split()
    found = declared.call(declare(words[:1]), words, {})
    assert found is not None
    (function,), given = found.args, found.keywords
    assert given == by_typer(words, monkeypatch)
    assert set(given) == set(declared._parameters(function))


@pytest.mark.parametrize("line", LEFT)
def test_what_is_wrong_or_unusual_is_left_to_typer(line: str) -> None:
    words = line.split()
    assert declared.call(declare(words[:1] if words[0] in COMMANDS else list(COMMANDS)), words, {}) is None


def test_the_environment_is_left_to_typer() -> None:
    words = ["gen", "a", "b.c"]
    assert declared.call(declare(words[:1]), words, {}) is not None
    assert declared.call(declare(words[:1]), words, {"BPF2PY_OUTPUT_DIR": "x"}) is None


def test_every_command_can_be_read_without_typer() -> None:
    commands = declare(list(COMMANDS))
    for group in (commands, *commands.groups.values()):
        for declaration, _ in group.commands.values():
            function = declared.imported(declaration)
            if any(each.default is ... for _, each in declared._parameters(function).values()):
                with pytest.raises(declared.NotPlain, match="it must be given"):
                    declared._read(function, [], {})
            else:
                declared._read(function, [], {})


@pytest.mark.kernel
def test_listing_imports_neither_typer_nor_rich() -> None:
    code = """
import sys
from bpf2py.cli import main
main(["map", "list"])
main(["prog", "list"])
main(["link", "list"])
print(sorted({"typer", "rich", "pathlib", "typing", "re", "numpy", "json"} & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
