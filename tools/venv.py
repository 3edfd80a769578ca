"""Create the development environment: a virtual environment with bpf2py (editable) and the named extras.

Used by the Makefile; needs nothing but Python 3.11 and pip. Downloads are tried several times, and a Python without
the ensurepip module (Debian's, before python3-venv is installed) gets its pip from the pip that runs this.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def fail(message: str) -> None:
    """End with a message and exit status 1."""
    sys.exit(f"tools/venv.py: {message}")


def retried(argv: list[str], attempts: int = 4) -> None:
    """Run a command that downloads; a mirror that hiccups gets another chance after a growing pause."""
    for attempt in range(1, attempts + 1):
        if subprocess.run(argv, cwd=ROOT).returncode == 0:
            return
        if attempt < attempts:
            print(f"failed (attempt {attempt} of {attempts}), again in {5 * attempt} s: {' '.join(argv)}", flush=True)
            time.sleep(5 * attempt)
    fail(f"gave up after {attempts} attempts: {' '.join(argv)}")


def create(venv: Path) -> None:
    """Create the virtual environment with a pip inside."""
    if importlib.util.find_spec("venv") is None:
        fail("this Python has no venv module; install it (Debian, Ubuntu: apt-get install python3-venv)")
    if importlib.util.find_spec("ensurepip") is not None:
        argv = [sys.executable, "-m", "venv", "--clear", str(venv)]
        if subprocess.run(argv, cwd=ROOT).returncode == 0:
            return
    if importlib.util.find_spec("pip") is None:
        fail("this Python has neither ensurepip nor pip; install one (Debian, Ubuntu: apt-get install python3-venv)")
    if subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(venv)], cwd=ROOT).returncode:
        fail(f"could not create {venv}")
    retried([sys.executable, "-m", "pip", "--python", str(venv / "bin/python"), "install", "--quiet", "pip"])


def main() -> None:
    """Parse the command line and do the work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("venv", type=Path)
    parser.add_argument("--extras", default="cc,dev", help="extras of pyproject.toml, with commas")
    parser.add_argument("--progress", action="store_true", help="show what pip downloads and installs")
    arguments = parser.parse_args()
    python = arguments.venv / "bin/python"
    # A venv whose base Python went away, or an unfinished one, is made anew.
    if subprocess.run([str(python), "-c", "import pip"], capture_output=True).returncode if python.exists() else True:
        create(arguments.venv)
    quiet = [] if arguments.progress else ["--quiet"]
    retried([str(python), "-m", "pip", "install", *quiet, "--editable", f".[{arguments.extras}]"])


if __name__ == "__main__":
    main()
