"""A traced child: runs a command, and lets its system calls, execs, forks and exits fire programs."""

from __future__ import annotations

import os
import signal
import struct
import time
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bpf2py.engine.programs.kernel_objects import KnownMembers, task_members
from bpf2py.engine.programs.prog_test_run import run_program
from bpf2py.engine.task import Task
from bpf2py.engine.trace import events
from bpf2py.engine.trace.ptrace import EVENTS, WALL, WNOTHREAD, Registers, SyscallStop, Tracee, knows_registers, seize
from bpf2py.errors import BpfError, BpfOSError
from bpf2py.uapi.syscalls import syscall_name, syscall_names

if TYPE_CHECKING:
    from bpf2py.engine.machine import Machine
    from bpf2py.engine.trace.events import Event

__all__ = ["TracedChild", "can_fire"]

# The kernel names tracepoints after its functions; these are called otherwise than the system call.
_KERNEL_NAMES = {
    "stat": "newstat", "fstat": "newfstat", "lstat": "newlstat", "uname": "newuname", "sendfile": "sendfile64",
    "umount2": "umount", "_sysctl": "sysctl",
}  # fmt: skip
_SCHED = ("sched_process_exec", "sched_process_fork", "sched_process_exit")
_RENAMING = ("prctl", "execve", "execveat")  # may change what a task is called
LET_GO = 5.0  # seconds for processes to stop before they are detached from
_IDENTITY = ("setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid")


def kernel_name(number: int) -> str:
    """The name of a system call as tracepoints have it."""
    name = syscall_name(number)
    return _KERNEL_NAMES.get(name, name)


def can_fire(hook: str) -> bool:
    """Whether a traced child lets this hook happen."""
    kind, _, target = hook.partition("/")
    if kind == "raw_tracepoint":
        # The first two hand over registers, which must be known.
        return target in _SCHED or (target in ("sys_enter", "sys_exit") and knows_registers())
    if kind != "tracepoint":
        return False
    if target in ("raw_syscalls/sys_enter", "raw_syscalls/sys_exit", *(f"sched/{name}" for name in _SCHED)):
        return True
    category, _, name = target.partition("/")
    for prefix in ("sys_enter_", "sys_exit_"):
        if category == "syscalls" and name.startswith(prefix):
            return name.removeprefix(prefix) in {_KERNEL_NAMES.get(n, n) for n in syscall_names().values()}
    return False


class Process:
    """What is known of a traced thread."""

    __slots__ = ("call", "exited", "started", "task", "tracee")

    def __init__(self, tracee: Tracee, task: Task, started: int) -> None:
        self.tracee = tracee
        self.task = task
        self.started = started  # ns of the engine's clock
        self.call: SyscallStop | None = None
        self.exited = False  # whether programs have seen it
        self.describe()

    def describe(self, **others: object) -> None:
        """What programs find in the struct task_struct beside who it is."""
        self.task.fields = {"start_time": self.started, "start_boottime": self.started, **others}


class TracedChild:
    """A command and all it starts, whose events run the programs attached to an engine.

    Args:
        engine: whose programs run.
        command: and its arguments.
        stdin, stdout, stderr: descriptors for it, None for this process's own.

    Attributes:
        pid: of the command.
        events: how many events let programs run.
        errors: what programs were stopped by, first of each text.
    """

    def __init__(
        self,
        engine: Machine,
        command: Sequence[str],
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> None:
        if not command:
            raise BpfError("the engine was given no command to run")
        self.engine = engine
        self.command = list(command)
        self.pid = 0
        self.events = 0
        self.errors: dict[str, BpfError] = {}
        self.returncode: int | None = None
        self._streams = (stdin, stdout, stderr)
        self._processes: dict[int, Process] = {}
        self._hooks: dict[str, list[Any]] = {}
        self._gate = -1
        self._failure = -1
        self._machine_cpu = engine.current_cpu
        self._executed = False  # whether the child has become the command

    def _start(self) -> None:
        """Make the child, which waits until it is traced."""
        gate, self._gate = os.pipe()
        self._failure, failure = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # about threads: the child does nothing but exec
            self.pid = os.fork()
        if self.pid == 0:
            self._become(gate, failure)
        os.close(gate)
        os.close(failure)

    def _become(self, gate: int, failure: int) -> None:
        """In the child: wait for the tracer, then be the command."""
        try:
            os.close(self._gate)
            os.close(self._failure)
            os.read(gate, 1)
            for number, stream in enumerate(self._streams):
                if stream is not None:
                    os.dup2(stream, number)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
                signal.signal(number, signal.SIG_DFL)
            os.set_inheritable(failure, False)
            os.set_inheritable(gate, False)
            os.execvp(self.command[0], self.command)
        except OSError as error:
            os.write(failure, str(error.errno or 0).encode())
        finally:
            os._exit(127)

    def run(self) -> int:
        """Trace the child to its end, in the thread that calls this: its exit status, 128 + N for signal N.

        What it started and left behind goes on untraced, as it does without a tracer.

        Raises:
            PermissionDenied: ptrace(2) is refused.
            BpfError: the command cannot be run.
        """
        self._start()
        try:
            seize(self.pid)
        except BaseException:
            self.kill()
            os.close(self._gate)
            os.close(self._failure)
            os.waitpid(self.pid, 0)
            raise
        self._plan()
        self._add(self.pid, self.pid).tracee.interrupt()  # from where it stops, its system calls are seen
        os.close(self._gate)
        try:
            while self.returncode is None:
                try:
                    # Only what this thread started: others of this process wait for their own.
                    tid, status = os.waitpid(-1, WALL | WNOTHREAD)
                except ChildProcessError:
                    break
                if tid == self.pid or tid in self._processes or os.WIFSTOPPED(status):
                    self._handle(tid, status)
            self._let_go()
        finally:
            self.engine.task = Task.current()
            for process in self._processes.values():
                process.tracee.close()
        failed = os.read(self._failure, 16)
        os.close(self._failure)
        if failed:
            raise BpfOSError(
                f"cannot run {self.command[0]}: {os.strerror(int(failed))}", errno=int(failed), command="execve"
            )
        return self.returncode or 0

    def _let_go(self) -> None:
        """Detach from what the command left behind: whoever traces ends what it traces when it ends."""
        for process in list(self._processes.values()):
            try:
                process.tracee.interrupt()
            except OSError:
                self._processes.pop(process.tracee.tid, None)
        deadline = time.monotonic() + LET_GO
        while self._processes and time.monotonic() < deadline:
            try:
                tid, status = os.waitpid(-1, WALL | WNOTHREAD | os.WNOHANG)
            except ChildProcessError:
                return
            if not tid:
                time.sleep(0.001)
                continue
            if os.WIFSTOPPED(status):
                event = EVENTS.get(status >> 16, "")
                tracee = self._processes[tid].tracee if tid in self._processes else Tracee(tid, tid)
                if event in ("fork", "vfork", "clone"):
                    self._add(tracee.event_message(), tid)
                plain = not event and os.WSTOPSIG(status) != signal.SIGTRAP | 0x80
                tracee.detach(os.WSTOPSIG(status) if plain else 0)
                tracee.close()
            self._processes.pop(tid, None)

    def kill(self) -> None:
        """End the child; those it started end with this process, or by themselves."""
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send the command a signal."""
        try:
            if self.pid and self.returncode is None:
                os.kill(self.pid, number)
        except ProcessLookupError:
            pass

    # -- events --------------------------------------------------------------------------------------------------

    def _plan(self) -> None:
        """Sort the attached programs by hook."""
        self._hooks = {}
        for link in self.engine.hooks:
            self._hooks.setdefault(link.hook, []).append(link)

    @property
    def _wants_syscalls(self) -> bool:
        return any("sys_enter" in hook or "sys_exit" in hook for hook in self._hooks)

    def _add(self, tid: int, tgid: int, parent: Process | None = None) -> Process:
        found = self._processes.get(tid)
        if found is not None:
            return found
        tracee = Tracee(tid, tgid)
        task = Task(tid, tgid, memory=tracee.read, write=tracee.write)
        if parent is not None:
            task.comm, task.uid, task.gid = parent.task.comm, parent.task.uid, parent.task.gid
            task.ppid = parent.task.tgid if tgid == tid else parent.task.ppid
        process = self._processes[tid] = Process(tracee, task, self.engine.now())
        _identify(task)
        return process

    def _handle(self, tid: int, status: int) -> None:
        process = self._processes.get(tid)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            if tid == self.pid:
                self.returncode = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
            if process is not None:
                # One that is killed, as other threads are when the first one ends them all, may end without a stop before it.
                self.engine.task = process.task
                self._exits(process, status)
                process.tracee.close()
                del self._processes[tid]
            return
        if process is None:
            process = self._add(tid, _tgid(tid))
        delivered = os.WSTOPSIG(status)
        event = EVENTS.get(status >> 16, "")
        self.engine.task = process.task
        self.engine.memory.u32[0x100 >> 2] = self._machine_cpu
        try:
            if delivered == signal.SIGTRAP | 0x80:
                self._syscall(process)
                delivered = 0
            elif event == "stop":
                if delivered in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
                    process.tracee.listen()
                    return
                delivered = 0
            elif event:
                self._event(process, event)
                delivered = 0
        except ProcessLookupError:
            return  # killed while it was stopped
        process.tracee.resume(self._wants_syscalls, delivered)

    def _event(self, process: Process, event: str) -> None:
        if event in ("fork", "vfork", "clone"):
            tid = process.tracee.event_message()
            child = self._add(tid, _tgid(tid), process)
            tasks = (_struct(process.task), _struct(child.task))
            self._fire(
                events.sched_process_fork(
                    process.task.pid, process.task.comm, tid, child.task.comm, tasks, self.engine.version >= (6, 16, 0)
                )
            )
        elif event == "exec":
            former = process.tracee.event_message()
            process.tracee.new_memory()
            _identify(process.task)
            self._executed = True
            interp = _link(f"/proc/{process.task.pid}/exe")
            filename = _executed(process.tracee) or interp
            self._fire(events.sched_process_exec(process.task.pid, filename, interp, former, _struct(process.task)))
        elif event == "exit":
            self._exits(process, process.tracee.event_message())

    def _exits(self, process: Process, code: int) -> None:
        if process.exited:
            return
        process.exited = True
        others = [p for p in self._processes.values() if p.task.tgid == process.task.tgid and not p.exited]
        process.describe(exit_code=code)
        self._fire(events.sched_process_exit(process.task.pid, process.task.comm, not others, _struct(process.task)))

    def _syscall(self, process: Process) -> None:
        stop = process.tracee.syscall()
        if stop is None:
            return
        if stop.entry:
            if not self._executed and stop.number not in _exec_numbers():
                return  # Python's way to the command, which is not the command's
            process.call = stop
            name = kernel_name(stop.number)
            if self._watched("sys_enter", name):
                self._fire(
                    events.sys_enter(process.task.pid, name, stop.number, stop.arguments, self._registers(process))
                )
            return
        call = process.call
        if call is None:
            return
        name = kernel_name(call.number)
        if name in _RENAMING or name in _IDENTITY:
            _identify(process.task)
        if self._watched("sys_exit", name):
            self._fire(events.sys_exit(process.task.pid, name, call, stop.result, self._registers(process)))
        process.call = None

    def _watched(self, kind: str, name: str) -> bool:
        hooks = self._hooks
        return (
            f"tracepoint/syscalls/{kind}_{name}" in hooks
            or f"tracepoint/raw_syscalls/{kind}" in hooks
            or f"raw_tracepoint/{kind}" in hooks
        )

    def _registers(self, process: Process) -> Registers:
        return process.tracee.registers() if any(hook.startswith("raw_tracepoint/sys_") for hook in self._hooks) else {}

    def _fire(self, event: Event) -> None:
        for name in event.names:
            for link in self._hooks.get(f"tracepoint/{name}", ()):
                self._run(link, event.record, ())
        for link in self._hooks.get(f"raw_tracepoint/{event.raw}", ()):
            self._run(link, None, event.arguments)

    def _run(self, link: Any, record: bytes | None, arguments: tuple[object, ...]) -> None:
        self.events += 1
        try:
            run_program(self.engine, link.program, record, b"", arguments, {}, link.cookie)
        except BpfError as error:
            # The child goes on as under the kernel; who asked for the trace is told.
            self.errors.setdefault(str(error).split("\n", 1)[0], error)


def _exec_numbers() -> tuple[int, ...]:
    return tuple(number for number, name in syscall_names().items() if name in ("execve", "execveat"))


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


AT_EXECFN = 31  # include/uapi/linux/auxvec.h


def _executed(tracee: Tracee) -> str:
    """The name that execve() was given, of scripts as well: the kernel has put it on the new program's stack."""
    try:
        with open(f"/proc/{tracee.tid}/auxv", "rb") as file:
            entries = dict(struct.iter_unpack("<QQ", file.read(4096)))
    except (OSError, struct.error):
        return ""
    return _text(tracee, entries.get(AT_EXECFN, 0))


def _text(tracee: Tracee, address: int) -> str:
    found = b""
    while len(found) < 4096:
        step = 4096 - (address + len(found) & 4095)
        part = tracee.read(address + len(found), step)
        if part is None:
            break
        end = part.find(b"\0")
        if end >= 0:
            found += part[:end]
            break
        found += part
    return found.decode("utf-8", "surrogateescape")


def _struct(task: Task) -> dict[str, object]:
    return KnownMembers({"__type__": "task_struct", **task_members(task)})


def _status(tid: int) -> dict[str, str]:
    try:
        with open(f"/proc/{tid}/status", encoding="utf-8", errors="replace") as file:
            return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    except OSError:
        return {}


def _tgid(tid: int) -> int:
    return int(_status(tid).get("Tgid", tid))


def _identify(task: Task) -> None:
    """Read who a thread is."""
    status = _status(task.pid)
    if not status:
        return
    task.comm = status.get("Name", task.comm)
    task.tgid = int(status.get("Tgid", task.tgid))
    task.ppid = int(status.get("PPid", task.ppid))
    task.uid = int(status["Uid"].split("\t")[0]) if "Uid" in status else task.uid
    task.gid = int(status["Gid"].split("\t")[0]) if "Gid" in status else task.gid
