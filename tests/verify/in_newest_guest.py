"""What runs in a guest with a kernel newer than this machine's. Functions return what JSON knows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import bpf2py
from bpf2py import Map, MapType
from bpf2py.errors import AttachError, BpfError, VerifierError
from bpf2py.maps import HashMap

NAMES = ("entries", "cookies", "arguments", "sessions", "exits", "returned")


def unlink() -> None:
    """Delete a file of one's own."""
    with open("/tmp/doomed", "w"):
        pass
    os.unlink("/tmp/doomed")


def trampolines(source: str) -> dict[str, Any]:
    """Programs of many functions, and sessions."""
    with bpf2py.load(source) as obj:
        obj.attach()
        unlink()
        found: dict[str, Any] = {name: obj.variables[name].value for name in NAMES}
        found["pointer"] = obj.variables["first"].value >> 47 == 0x1FFFF
        found["links"] = [(link.hook, link.info["type"]) for link in obj.links]
        obj.links[0].close()
        link = obj.programs["on_entry"].attach(symbols=["vfs_unlink", "security_path_unlink"], cookies=[5, 6])
        found["count"] = link.info.get("count")
        obj.variables["cookies"].value = 0
        unlink()
        found["both cookies"] = obj.variables["cookies"].value
        found["counted"] = obj.maps["resizable"][os.getpid()]
        found["refused"] = {}
        for options in ({"symbols": ["no_such"]}, {"symbols": ["vfs_unlink"], "cookies": [1, 2]}, {"target": "nothing_like_*"},
                        {"symbols": ["vfs_unlink"] * 2}):  # fmt: skip
            try:
                obj.programs["on_exit"].attach(**options)
            except AttachError as error:
                found["refused"][str(options)] = str(error)
    return found


def resizable_hash() -> dict[str, Any]:
    """A map of type RHASH, as any hash map."""
    with Map.create(MapType.RHASH, key="u32", value="u64", max_entries=100, flags=1) as counts:
        assert isinstance(counts, HashMap)
        counts.update({key: key * 3 for key in range(100)})
        found: dict[str, Any] = {"count": counts.count(), "sum": sum(value for _, value in counts.items())}
        del counts[5]
        found["5"] = counts.get(5)
        counts[5] = 1
        try:
            counts[1000] = 1
        except BpfError as error:
            found["full"] = f"{type(error).__name__}: {error}"
        found["array"] = len(counts.to_numpy()) if _has_numpy() else 100
        found["popped"] = counts.pop(7)
        counts.clear()
        found["left"] = len(list(counts))
    return found


def _has_numpy() -> bool:
    try:
        import numpy  # noqa: F401
    except ImportError:
        return False
    return True


def arguments_by_the_context(source: str) -> str:
    """What the verifier says of a program of many functions that reads its arguments as one of a single function does."""
    try:
        with bpf2py.load(source):
            return ""
    except VerifierError as error:
        return str(error)


def streams(source: str) -> dict[str, Any]:
    """What a program prints into its own streams, which Linux 6.18 here has no memory for."""
    with bpf2py.load(source) as obj:
        program = obj.programs["print"]
        program.test_run()
        found: dict[str, Any] = {"failed": obj.variables["failed"].value}
        found["stdout"], found["stderr"] = program.stdout(), program.stderr()
        found["again"] = program.stdout()
        for _ in range(4000):
            program.test_run()
        found["most"] = len(program.stdout())
        program.test_run()
        command = [sys.executable, "-m", "bpf2py", "prog", "stream", str(program.info.id)]
        found["command"] = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    command = [
        sys.executable,
        "-m",
        "bpf2py",
        "run",
        "--json",
        source,
        "--",
        sys.executable,
        "-c",
        "import os; os.getppid()",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    found["run"] = sorted({(row["program"], row["stream"], row["text"]) for row in rows if "stream" in row})
    return found
