"""tools/vm.py: what it started ends with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, signal, sys
from pathlib import Path
from tools.vm import end_by_exception, process_group

end_by_exception()
with process_group(["sh", "-c", "exec 3>alive; echo started >&3; sleep 600 & wait"], dict(os.environ), Path("log")):
    signal.pause()
"""


def not_ignored() -> None:
    """As in a shell, also where the tests run under nohup or in the background."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_the_whole_group(tmp_path: Path, number: signal.Signals) -> None:
    root = Path(__file__).parent.parent
    alive = tmp_path / "alive"
    os.mkfifo(alive)
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL, preexec_fn=not_ignored
    ) as tool:
        with alive.open("rb") as stream:
            assert stream.readline() == b"started\n"
            tool.send_signal(number)
            assert stream.read() == b""  # the end of the last process that has it open
        status = tool.wait()
    assert status == (-signal.SIGINT if number == signal.SIGINT else 128 + number)
