"""How the process of a command ends: with its status, all of its output, and what was registered for then."""

from __future__ import annotations

import subprocess
import sys

import pytest

START = "import sys; sys.argv = ['bpf2py', *sys.argv[1:]]; from bpf2py.cli import script; "


def ended(code: str, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["--version"], 0), (["--help"], 0), (["nothing-such"], 2), (["inspect", "/nowhere/x.bpf.o"], 1)],
)
def test_it_is_what_main_ends_with(arguments: list[str], status: int) -> None:
    quick = ended(START + "script()", *arguments)
    slow = ended(START + "from bpf2py.cli import main; main()", *arguments)
    assert quick == slow
    assert quick[0] == status
    assert quick[1] or quick[2]


def test_what_is_registered_runs() -> None:
    status, output, _ = ended(START + "import atexit; atexit.register(print, 'the end'); script()", "--version")
    assert status == 0
    assert output.splitlines()[-1] == "the end"


def test_threads_end_first() -> None:
    late = "threading.Thread(target=lambda: (threading.main_thread().join(), print('the end'))).start()"
    code = f"{START}import threading; {late}; script()"
    assert ended(code, "--version")[1].splitlines()[-1] == "the end"


def test_profilers_are_given_their_results() -> None:
    code = START + "import cProfile; cProfile.run('script()')"
    assert "function calls" in ended(code, "--version")[1]


def test_all_of_a_long_output_arrives() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bpf2py", "tool", "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.rstrip().endswith("╯")
