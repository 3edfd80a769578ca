"""Wrong command lines: one or two lines on stderr, the documented exit status, never a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# (arguments, exit status); 2 is typer's for wrong usage.
WRONG = [
    ("nonsense", 2),
    ("map", 2),
    ("map nonsense", 2),
    ("map dump", 2),
    ("map dump --json", 2),
    ("map dump no-such-map-anywhere", 1),
    ("map dump no-such-map-anywhere --json", 1),
    ("map dump /no/such/pin", 1),
    ("map dump /etc/passwd --json", 1),
    ("map dump 99999999999999999999 --json", 1),
    ("map dump 2147483647", 1),
    ("map dump 1 2 3", 2),
    ("map get nothing", 2),
    ("map get nothing 1", 1),
    ("map set nothing 1", 2),
    ("map watch nothing", 1),
    ("map export nothing", 2),
    ("map export nothing file.txt", 1),
    ("map import nothing /no/such/file.json", 1),
    ("prog show 2147483647", 1),
    ("prog show nonsense", (1, 2)),
    ("prog dump", 2),
    ("link show x y z", 2),
    ("run", 2),
    ("run /no/such/file.bpf.c", 1),
    ("run /etc/passwd", 1),
    ("run FILE --no-such-option", 2),
    ("features --helpers no-such-type", 1),
    ("inspect", 2),
    ("inspect /no/such/file.o", 1),
    ("inspect /etc/passwd", 1),
    ("inspect /dev/null", 1),
    ("inspect /", 1),
    ("gen", 2),
    ("gen only_a_name", 2),
    ("gen x /no/such/file.o", 1),
    ("gen x /no/such/file.bpf.c", 1),
    ("gen 1x /etc/passwd", 1),
    ("gen x /etc/passwd", 1),
    ("gen x FILE --type nothing", 1),
    ("events", 2),
    ("events nothing", 1),
    ("events nothing --type event", 1),
    ("events nothing --count zero", 2),
    ("vmlinux --no-such-option", 2),
    ("doctor too many arguments", 2),
]


@pytest.mark.kernel
@pytest.mark.parametrize(("line", "status"), WRONG, ids=[line for line, _ in WRONG])
def test_wrong_command_lines(line: str, status: int | tuple[int, ...], tmp_path: Path) -> None:
    source = tmp_path / "file.bpf.c"
    source.write_text("int x;\n")
    arguments = [str(source) if word == "FILE" else word for word in line.split()]
    done = subprocess.run(
        [sys.executable, "-m", "bpf2py", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=tmp_path,
    )
    assert done.returncode in (status if isinstance(status, tuple) else (status,)), done.stdout + done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    if done.returncode == 1:
        lines = done.stderr.strip().splitlines()
        assert 1 <= len(lines) <= 2, done.stderr
        assert lines[0].startswith("bpf2py: "), done.stderr
