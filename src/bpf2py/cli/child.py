"""The command `bpf2py run` watches: started, or traced for the engine; and all the processes it starts."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable

from bpf2py._lazy import module
from bpf2py._typing import IO, TYPE_CHECKING, Any
from bpf2py.cli.guard import PATIENCE, Guard, guards
from bpf2py.errors import BpfError
from bpf2py.processes import pids, stat_of

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine
    from bpf2py.engine.trace import child as traced_child
else:
    traced_child = module("bpf2py.engine.trace.child")

__all__ = ["Started", "Traced", "adopt_orphans", "end_all", "living"]

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # include/uapi/linux/prctl.h


def _prctl() -> Any:
    return ctypes.CDLL(None, use_errno=True).prctl


def adopt_orphans() -> None:
    """Processes whose parents end become this one's children, so that `living` finds them."""
    _prctl()(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def living() -> dict[int, str]:
    """The processes this one started, directly or not, that have not ended: names by pid."""
    children: dict[int, list[tuple[int, str]]] = {}
    try:
        there = pids()
    except OSError:
        return {}
    for pid in there - guards:
        stat = stat_of(pid)
        if stat is not None and not stat.ended:
            children.setdefault(stat.parent, []).append((pid, stat.name))
    found: dict[int, str] = {}
    pending = [os.getpid()]
    while pending:
        for pid, name in children.get(pending.pop(), ()):
            found[pid] = name
            pending.append(pid)
    return found


def end_all(impatient: Callable[[], bool]) -> dict[int, str]:
    """End the command and all it started: SIGTERM, then SIGKILL for what is left; what that was.

    Args:
        impatient: whether the user asked once more, so that SIGKILL follows at once.
    """
    ended: dict[int, str] = {}
    asked: set[int] = set()
    begin = time.monotonic()
    while True:
        left = living()
        ended.update(left)
        passed = time.monotonic() - begin
        if not left or passed > 2 * PATIENCE:
            return ended
        kill = passed > PATIENCE or impatient()
        for pid in left:
            if kill or pid not in asked:
                asked.add(pid)
                for number in (signal.SIGKILL,) if kill else (signal.SIGTERM, signal.SIGCONT):
                    try:
                        os.kill(pid, number)
                    except (ProcessLookupError, PermissionError):
                        pass  # it has ended; or it became another user, whom only root ends
        time.sleep(0.02)


class Started:
    """A command that runs by itself."""

    def __init__(self, command: list[str], stdout: int | None, stderr: int | None) -> None:
        prctl, parent = _prctl(), os.getpid()

        def prepare() -> None:
            prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)  # this process may be killed before it can end the command
            if os.getppid() != parent:
                os._exit(128 + signal.SIGTERM)  # it was, already

        self._guard = Guard()
        try:
            # The function is two system calls; nothing of this process runs beside it that could hold a lock.
            self._process = subprocess.Popen(
                command, stdout=stdout, stderr=stderr, env=self._guard.environment, preexec_fn=prepare
            )
        except OSError as error:
            self._guard.dismiss()
            raise BpfError(f"cannot run {command[0]}: {error.strerror}") from None
        self.stdout: IO[bytes] | None = self._process.stdout

    @property
    def returncode(self) -> int | None:
        """The exit status, 128 + N for signal N; None while it runs."""
        status = self._process.returncode
        return status if status is None or status >= 0 else 128 - status

    def wait(self) -> None:
        """Wait for its end; orphans that end meanwhile are laid to rest."""
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            except (ChildProcessError, InterruptedError):
                found = None
            if found is None or found.si_pid == self._process.pid:
                self._process.wait()
                self._guard.dismiss()
                return
            try:
                os.waitpid(found.si_pid, 0)
            except ChildProcessError:
                pass

    def report(self) -> list[str]:
        """Nothing can have gone wrong."""
        return []


class Traced:
    """A command traced for the engine, with the interface of `Started`."""

    def __init__(self, engine: Machine, command: list[str], piped: bool, to_stderr: bool) -> None:
        reader, writer = os.pipe() if piped else (-1, 2 if to_stderr else -1)
        out = writer if writer >= 0 else None
        self.stdout: IO[bytes] | None = os.fdopen(reader, "rb") if piped else None
        self.returncode: int | None = None
        self._child = traced_child.TracedChild(engine, command, stdout=out, stderr=out if piped else None)
        self._error: BaseException | None = None
        self._writer = writer if piped else -1
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            returncode = self._child.run()
        except BaseException as error:
            self._error = error
            returncode = 127
        finally:
            if self._writer >= 0:
                os.close(self._writer)
        self.returncode = returncode

    def wait(self) -> None:
        """Wait for its end."""
        self._thread.join()

    def report(self) -> list[str]:
        """Which programs were stopped; raises what went wrong."""
        if self._error is not None:
            raise self._error
        return list(self._child.errors)
