"""The command line in the test's own process: starting one for each call takes most of the time."""

from __future__ import annotations

import contextlib
import io
import subprocess
import warnings

from bpf2py.cli import main


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What a command printed, and its exit status."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        try:
            main(arguments)
        except SystemExit as ended:
            status = int(ended.code or 0)
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())
