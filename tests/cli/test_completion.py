"""Shell completion knows the commands, although only the one that runs is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BPF2PY = str(Path(sys.executable).parent / "bpf2py")


def complete(*words: str) -> list[str]:
    """What bash would offer for the last word."""
    environment = os.environ | {
        "_BPF2PY_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(("bpf2py", *words)),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run([BPF2PY], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("ma",), ["map"]),
        (("p",), ["packets", "prog"]),
        (("map", "du"), ["dump"]),
        (("run", "--back"), ["--backend"]),
        (("map", "dump", "--cs"), ["--csv"]),
        (("gen", "--ch"), ["--check"]),
    ],
)
def test_offers(words: tuple[str, ...], offered: list[str]) -> None:
    assert sorted(complete(*words)) == offered


def test_offers_every_command() -> None:
    from bpf2py.cli import COMMANDS

    assert set(complete("")) == set(COMMANDS)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_is_shown_and_installed(shell: str, tmp_path: Path) -> None:
    environment = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "HOME": str(tmp_path)}
    shown = subprocess.run(
        [BPF2PY, "--show-completion", shell], env=environment, capture_output=True, text=True, check=True
    )
    assert "_BPF2PY_COMPLETE" in shown.stdout
    subprocess.run([BPF2PY, "--install-completion", shell], env=environment, capture_output=True, check=True)
    installed = [path for path in tmp_path.rglob("*") if path.is_file() and "_BPF2PY_COMPLETE" in path.read_text()]
    assert len(installed) == 1
