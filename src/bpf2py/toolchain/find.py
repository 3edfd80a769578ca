"""Finding a C compiler that makes BPF objects: clang 14 or newer, else the one in the ziglang wheel."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bpf2py.errors import CompilerNotFound

__all__ = ["Compiler", "find_compiler", "ziglang_directory"]

MINIMUM_CLANG = 14  # the first whose BPF backend emits btf_type_tag and all CO-RE relocations
NEWEST_CLANG = 39  # two releases a year: looked for under their numbers until 2030
_ADVICE = "install clang 14 or newer, or: pip install 'bpf2py[cc]'"


class Compiler(NamedTuple):
    """A compiler on this machine.

    Attributes:
        kind: ``"clang"`` or ``"zig"``.
        argv: the words to start it with; the flags come behind.
        version: its version, such as ``"19.1.7"`` (for zig that of zig itself).
    """

    kind: str
    argv: tuple[str, ...]
    version: str = ""

    @property
    def identity(self) -> str:
        """What changes when the program behind `argv` is replaced: its real path, size and modification time."""
        path = os.path.realpath(self.argv[0])
        try:
            facts = os.stat(path)
        except OSError:
            return f"{path} is missing"
        return " ".join((self.kind, path, str(facts.st_size), str(facts.st_mtime_ns), *self.argv[1:]))


def ziglang_directory() -> Path | None:
    """The directory of the ziglang wheel in this Python's environment, or None."""
    from importlib.util import find_spec

    spec = find_spec("ziglang")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])


def _wheel() -> Compiler | None:
    directory = ziglang_directory()
    if directory is None:
        return None
    for name in ("zig", "zig.exe"):
        if (directory / name).is_file():
            return Compiler("zig", (str(directory / name), "cc"))
    return None


def _from_environment(setting: str) -> Compiler:
    words = shlex.split(setting)
    if words == ["ziglang"]:
        wheel = _wheel()
        if wheel is None:
            raise CompilerNotFound(
                "BPF2PY_CC=ziglang, but the ziglang wheel is not installed: pip install 'bpf2py[cc]'"
            )
        return wheel
    path = shutil.which(words[0]) if words else None
    if path is None:
        raise CompilerNotFound(f"BPF2PY_CC={setting}: no such program; {_ADVICE}, or unset BPF2PY_CC")
    if Path(path).stem == "zig":
        return Compiler("zig", (path, *(words[1:] or ["cc"])))
    return Compiler("clang", (path, *words[1:]))


def _numbered_clangs() -> Iterator[str]:
    """Paths of ``clang-NN`` on PATH, newest first."""
    # Asking for each name costs a tenth of listing a directory such as /usr/bin.
    paths = (shutil.which(f"clang-{number}") for number in range(NEWEST_CLANG, MINIMUM_CLANG - 1, -1))
    return (path for path in paths if path is not None)


def candidates() -> Iterator[Compiler]:
    """Compilers in the order of preference, not yet asked for their version; no process is started.

    Raises:
        CompilerNotFound: BPF2PY_CC names something that is not there.
    """
    setting = os.environ.get("BPF2PY_CC")
    if setting:
        yield _from_environment(setting)
        return
    plain = shutil.which("clang")
    if plain is not None:
        yield Compiler("clang", (plain,))
    for path in _numbered_clangs():
        yield Compiler("clang", (path,))
    wheel = _wheel()
    if wheel is not None:
        yield wheel


def _output(argv: tuple[str, ...]) -> str:
    import subprocess

    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""


def examine(candidate: Compiler) -> tuple[Compiler | None, str]:
    """Start a candidate to learn its version: the compiler, or None and why it will not do."""
    if candidate.version:
        return candidate, ""
    if candidate.kind == "zig":
        version = _output((candidate.argv[0], "version")).strip()
        if not version:
            return None, f"{candidate.argv[0]} does not run"
        return candidate._replace(version=version), ""
    match = re.search(r"clang version (\d+)\S*", _output((*candidate.argv, "--version")))
    if match is None:
        return None, f"{candidate.argv[0]} is not clang"
    version = match[0].removeprefix("clang version ")
    if int(match[1]) < MINIMUM_CLANG:
        return None, f"{candidate.argv[0]} is version {version}, too old"
    if "bpfel" not in _output((*candidate.argv, "--print-targets")):
        return None, f"{candidate.argv[0]} was built without the BPF target"
    return candidate._replace(version=version), ""


def not_found(reasons: list[str]) -> CompilerNotFound:
    """The error for a machine none of whose compilers will do."""
    why = f" ({'; '.join(reasons)})" if reasons else ""
    return CompilerNotFound(f"no compiler for BPF found{why}: {_ADVICE}")


def find_compiler() -> Compiler:
    """The compiler that `compile` uses.

    The first of: what BPF2PY_CC names (a command, or ``ziglang`` for the wheel), ``clang``, the newest ``clang-NN`` on
    PATH, the ziglang wheel of the extra ``bpf2py[cc]``. A clang must be version 14 or newer and have the BPF target.

    Raises:
        CompilerNotFound: there is none; the message says what was found unfit and what to install.
    """
    reasons = []
    for candidate in candidates():
        compiler, reason = examine(candidate)
        if compiler is not None:
            return compiler
        reasons.append(reason)
    raise not_found(reasons)
