"""`bpf2py tool`: ready-made tools."""

from __future__ import annotations

from functools import partial

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING
from bpf2py.cli import declared as typer
from bpf2py.cli.tool_session import asked, watch

if TYPE_CHECKING:
    from bpf2py.tools import block as block_tool
    from bpf2py.tools import dists as dists_tool
    from bpf2py.tools import execsnoop as execsnoop_tool
    from bpf2py.tools import exitsnoop as exitsnoop_tool
    from bpf2py.tools import functions as functions_tool
    from bpf2py.tools import killsnoop as killsnoop_tool
    from bpf2py.tools import opensnoop as opensnoop_tool
    from bpf2py.tools import pycalls as pycalls_tool
    from bpf2py.tools import python as python_tool
    from bpf2py.tools import stacks as stacks_tool
    from bpf2py.tools import syscount as syscount_tool
    from bpf2py.tools import tcp as tcp_tool
else:
    block_tool = module("bpf2py.tools.block")
    dists_tool = module("bpf2py.tools.dists")
    execsnoop_tool = module("bpf2py.tools.execsnoop")
    exitsnoop_tool = module("bpf2py.tools.exitsnoop")
    functions_tool = module("bpf2py.tools.functions")
    killsnoop_tool = module("bpf2py.tools.killsnoop")
    opensnoop_tool = module("bpf2py.tools.opensnoop")
    pycalls_tool = module("bpf2py.tools.pycalls")
    python_tool = module("bpf2py.tools.python")
    stacks_tool = module("bpf2py.tools.stacks")
    syscount_tool = module("bpf2py.tools.syscount")
    tcp_tool = module("bpf2py.tools.tcp")

PID = typer.Option(None, "--pid", "-p", min=1, help="Only this process.")
COMM = typer.Option(None, metavar="NAME", help="Only threads of this name, of which 15 bytes count.")
CGROUP = typer.Option(None, metavar="DIRECTORY", help="Only this control group (version 2) and those below it.")
DURATION = typer.Option(None, "--duration", "-d", min=0.0, help="Stop after this many seconds.")
JSON = typer.Option(False, "--json", help="Print a JSON object a line.")
FUNCTION = typer.Argument(
    ..., metavar="BINARY:FUNCTION", help="A function of a program or library, such as libc:malloc."
)
COMMAND = typer.Argument(None, metavar="[-- COMMAND...]", help="Run this, and watch only it and what it starts.")
FAILED = typer.Option(False, "--failed", "-x", help="Only those that fail.")

FREQUENCY = typer.Option(99, "--frequency", "-F", min=1, metavar="HZ", help="Samples a second on each CPU.")
NATIVE = typer.Option(True, "--native/--no-native", help="Show native code and the kernel among the frames of Python.")
OUTPUT = typer.Option(
    None,
    "--output",
    "-o",
    metavar="FILE",
    help="Write the stacks: .html (a flame graph), .folded, .speedscope.json or .pb.gz (pprof).",
)
BY_PROCESS = typer.Option(False, "--process", "-P", help="A histogram for each process.")
PORT = typer.Option(None, "--port", min=1, metavar="N", help="Only connections with this port on either side.")
NAMES = (
    "execsnoop", "opensnoop", "exitsnoop", "killsnoop", "syscount", "profile", "offcputime", "pyprofile", "pyoffcpu",
    "runqlat", "cpudist", "tcplife", "tcpconnect", "pyopens", "pyconnects", "funccount", "funclatency",
    "biosnoop", "biolatency",
)  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the commands."""
    tools = typer.Typer(
        help="Ready-made tools: what the machine, a process or a command does.\n\n"
        "They watch until Ctrl-C, for --duration seconds, or while COMMAND runs, and say at the end what they lost.",
        no_args_is_help=True,
    )
    for name in NAMES:
        tools.later(name, f"tool:{name}")
    app.add_typer(tools, name="tool")


def execsnoop(
    failed: bool = typer.Option(False, "--failed", "-x", help="Also attempts that fail."),
    pid: int = PID,
    comm: str = COMM,
    cgroup: str = CGROUP,
    duration: float = DURATION,
    as_json: bool = JSON,
    command: list[str] = COMMAND,
) -> None:
    """Show programs that are executed, with their arguments.

    PCOMM is the name the thread has then, RET a negative errno where it failed (--failed).

    Examples:

        bpf2py tool execsnoop

        bpf2py tool execsnoop --json -- make -j2 | jq -r '.args | join(" ")'
    """
    watch(partial(execsnoop_tool.Execsnoop, failed=failed), asked(pid, comm, cgroup, duration, as_json, command))


def opensnoop(
    failed: bool = FAILED,
    pid: int = PID,
    comm: str = COMM,
    cgroup: str = CGROUP,
    duration: float = DURATION,
    as_json: bool = JSON,
    command: list[str] = COMMAND,
) -> None:
    """Show files that are opened: by whom, the descriptor or the error, and the path as it was given.

    Calls of open, openat and openat2 are shown when they return.

    Examples:

        bpf2py tool opensnoop --failed -- python3 -c 'import json'

        bpf2py tool opensnoop --pid 1234 --json
    """
    watch(partial(opensnoop_tool.Opensnoop, failed=failed), asked(pid, comm, cgroup, duration, as_json, command))


def exitsnoop(
    failed: bool = typer.Option(
        False, "--failed", "-x", help="Only those with an exit status other than 0, or killed."
    ),
    pid: int = PID,
    comm: str = COMM,
    cgroup: str = CGROUP,
    duration: float = DURATION,
    as_json: bool = JSON,
    command: list[str] = COMMAND,
) -> None:
    """Show processes that end: how old they were, and their exit status or the signal that killed them.

    Examples:

        bpf2py tool exitsnoop --failed

        bpf2py tool exitsnoop -- make test
    """
    watch(partial(exitsnoop_tool.Exitsnoop, failed=failed), asked(pid, comm, cgroup, duration, as_json, command))


def killsnoop(
    failed: bool = FAILED,
    number: int = typer.Option(None, "--signal", "-s", min=0, help="Only this signal, by its number."),
    pid: int = PID,
    comm: str = COMM,
    cgroup: str = CGROUP,
    duration: float = DURATION,
    as_json: bool = JSON,
    command: list[str] = COMMAND,
) -> None:
    """Show signals that processes send with kill, tkill, tgkill and pidfd_send_signal; signals of the kernel are not among them.

    TARGET is what the call was given: a process or thread, minus a process group, a pidfd.

    Examples:

        bpf2py tool killsnoop

        bpf2py tool killsnoop --signal 9 --json
    """
    watch(
        partial(killsnoop_tool.Killsnoop, failed=failed, number=number),
        asked(pid, comm, cgroup, duration, as_json, command),
    )


def syscount(
    by_process: bool = typer.Option(False, "--process", "-P", help="Count by process."),
    latency: bool = typer.Option(False, "--latency", "-L", help="Also the time they took, and sort by it."),
    failed: bool = FAILED,
    error: str = typer.Option(None, "--errno", "-e", metavar="NAME", help="Only those that fail so, such as ENOENT."),
    top: int = typer.Option(10, "--top", "-T", min=1, help="Rows."),
    pid: int = PID,
    comm: str = COMM,
    cgroup: str = CGROUP,
    duration: float = DURATION,
    as_json: bool = JSON,
    command: list[str] = COMMAND,
) -> None:
    """Count system calls, by name or by process.

    They count when they begin; with --latency, --failed or --errno when they return. Calls of 32-bit programs do not count.

    Examples:

        bpf2py tool syscount --duration 5

        bpf2py tool syscount --latency -- python3 -c 'import asyncio'
    """
    watch(
        partial(
            syscount_tool.Syscount, by_process=by_process, latency=latency, failed=failed, error=error or "", top=top
        ),
        asked(pid, comm, cgroup, duration, as_json, command),
    )


def profile(
    frequency: int = FREQUENCY,
    output: str = OUTPUT,
    pid: int = PID,
    comm: str = COMM,
    cgroup: str = CGROUP,
    duration: float = DURATION,
    as_json: bool = JSON,
    command: list[str] = COMMAND,
) -> None:
    """Sample the stacks of what runs on the CPUs, of the kernel (marked _[k]) and of native code, and print them as a tree.

    Examples:

        bpf2py tool profile --duration 10 --output flame.html

        bpf2py tool profile --frequency 999 -- gzip -k big
    """
    rate = stacks_tool.check_frequency(frequency)
    watch(partial(stacks_tool.Profile, frequency=rate), asked(pid, comm, cgroup, duration, as_json, command, output))


def offcputime(
    least: int = typer.Option(0, "--min", min=0, metavar="US", help="Only waits of at least so many microseconds."),
    output: str = OUTPUT,
    pid: int = PID,
    comm: str = COMM,
    cgroup: str = CGROUP,
    duration: float = DURATION,
    as_json: bool = JSON,
    command: list[str] = COMMAND,
) -> None:
    """Add up the time that threads are not on a CPU, by the stack with which they left it: what they wait for.

    Waits that last when the tool ends count up to then; those that began before it began do not count.

    Examples:

        bpf2py tool offcputime --pid 1234 --duration 10

        bpf2py tool offcputime --output flame.html -- make
    """
    watch(partial(stacks_tool.Offcputime, least_us=least), asked(pid, comm, cgroup, duration, as_json, command, output))


def pyprofile(
    frequency: int = FREQUENCY,
    native: bool = NATIVE,
    output: str = OUTPUT,
    pid: int = PID,
    comm: str = COMM,
    cgroup: str = CGROUP,
    duration: float = DURATION,
    as_json: bool = JSON,
    command: list[str] = COMMAND,
) -> None:
    """Sample what Python programs do on the CPUs: functions and lines of Python, the native code below them, and the kernel.

    CPython 3.11 to 3.14, without a change to the program or its environment.

    Examples:

        bpf2py tool pyprofile --output flame.html -- python3 script.py

        bpf2py tool pyprofile --pid 1234 --duration 10 --no-native
    """
    rate = stacks_tool.check_frequency(frequency)
    watch(
        partial(python_tool.Pyprofile, frequency=rate, native=native),
        asked(pid, comm, cgroup, duration, as_json, command, output),
    )


def pyoffcpu(
    least: int = typer.Option(1000, "--min", min=0, metavar="US", help="Only waits of at least so many microseconds."),
    native: bool = NATIVE,
    output: str = OUTPUT,
    pid: int = PID,
    comm: str = COMM,
    cgroup: str = CGROUP,
    duration: float = DURATION,
    as_json: bool = JSON,
    command: list[str] = COMMAND,
) -> None:
    """Add up the time that threads of Python programs are not on a CPU, by function and line: what they wait for.

    Examples:

        bpf2py tool pyoffcpu --pid 1234 --duration 10

        bpf2py tool pyoffcpu --no-native -- python3 script.py
    """
    watch(
        partial(python_tool.Pyoffcpu, least_us=least, native=native),
        asked(pid, comm, cgroup, duration, as_json, command, output),
    )


def runqlat(
    by_process: bool = BY_PROCESS,
    pid: int = PID,
    comm: str = COMM,
    cgroup: str = CGROUP,
    duration: float = DURATION,
    as_json: bool = JSON,
    command: list[str] = COMMAND,
) -> None:
    """Draw how long threads wait for a CPU, from when they are woken, or lose it, until they run.

    Examples:

        bpf2py tool runqlat --duration 10

        bpf2py tool runqlat -- make -j8
    """
    watch(partial(dists_tool.Runqlat, by_process=by_process), asked(pid, comm, cgroup, duration, as_json, command))


def cpudist(
    by_process: bool = BY_PROCESS,
    pid: int = PID,
    comm: str = COMM,
    cgroup: str = CGROUP,
    duration: float = DURATION,
    as_json: bool = JSON,
    command: list[str] = COMMAND,
) -> None:
    """Draw how long threads run on a CPU at a time.

    Examples:

        bpf2py tool cpudist --pid 1234 --duration 10

        bpf2py tool cpudist --process -- make -j2
    """
    watch(partial(dists_tool.Cpudist, by_process=by_process), asked(pid, comm, cgroup, duration, as_json, command))


def tcplife(
    port: int = PORT,
    pid: int = PID,
    comm: str = COMM,
    cgroup: str = CGROUP,
    duration: float = DURATION,
    as_json: bool = JSON,
    command: list[str] = COMMAND,
) -> None:
    """Show TCP connections when they are closed: who had them, how long they were open, and the bytes they carried.

    Those that were open before are not shown. Of an accepted connection the process is the one that closes it.

    Examples:

        bpf2py tool tcplife --port 443

        bpf2py tool tcplife --json -- curl -s https://example.org
    """
    watch(partial(tcp_tool.Tcplife, port=port or 0), asked(pid, comm, cgroup, duration, as_json, command))


def tcpconnect(
    port: int = PORT,
    pid: int = PID,
    comm: str = COMM,
    cgroup: str = CGROUP,
    duration: float = DURATION,
    as_json: bool = JSON,
    command: list[str] = COMMAND,
) -> None:
    """Show TCP connections that processes open, when that succeeds or fails, with the time it took.

    Examples:

        bpf2py tool tcpconnect

        bpf2py tool tcpconnect --port 5432 --json
    """
    watch(partial(tcp_tool.Tcpconnect, port=port or 0), asked(pid, comm, cgroup, duration, as_json, command))


def pyopens(
    failed: bool = FAILED,
    pid: int = PID,
    comm: str = COMM,
    cgroup: str = CGROUP,
    duration: float = DURATION,
    as_json: bool = JSON,
    command: list[str] = COMMAND,
) -> None:
    """Show files that Python programs open, or try to: the path, and the function and line that opens it.

    WHERE is the innermost function that is not of Python's standard library; --json has the whole stack.

    Examples:

        bpf2py tool pyopens --failed -- python3 -c 'import json'

        bpf2py tool pyopens --json -- python3 script.py
    """
    watch(partial(pycalls_tool.Pyopens, failed=failed), asked(pid, comm, cgroup, duration, as_json, command))


def pyconnects(
    failed: bool = FAILED,
    pid: int = PID,
    comm: str = COMM,
    cgroup: str = CGROUP,
    duration: float = DURATION,
    as_json: bool = JSON,
    command: list[str] = COMMAND,
) -> None:
    """Show addresses that Python programs connect to, and the function and line that does it.

    WHERE is the innermost function that is not of Python's standard library; --json has the whole stack.

    Examples:

        bpf2py tool pyconnects --pid 1234

        bpf2py tool pyconnects --json -- python3 script.py
    """
    watch(partial(pycalls_tool.Pyconnects, failed=failed), asked(pid, comm, cgroup, duration, as_json, command))


def funccount(
    function: str = FUNCTION,
    command: list[str] = COMMAND,
    top: int = typer.Option(20, "--top", "-T", min=1, help="Rows."),
    pid: int = PID,
    comm: str = COMM,
    cgroup: str = CGROUP,
    duration: float = DURATION,
    as_json: bool = JSON,
) -> None:
    """Count calls of functions of programs and libraries: of one, or of all that match a pattern with * and ? (Linux 6.6).

    Examples:

        bpf2py tool funccount 'libc:str*' -- ls

        bpf2py tool funccount libc:malloc --pid 1234 --duration 5
    """
    tool = partial(functions_tool.Funccount, function=function, top=top)
    watch(tool, asked(pid, comm, cgroup, duration, as_json, command))


def funclatency(
    function: str = FUNCTION,
    command: list[str] = COMMAND,
    pid: int = PID,
    comm: str = COMM,
    cgroup: str = CGROUP,
    duration: float = DURATION,
    as_json: bool = JSON,
) -> None:
    """Draw how long calls of a function take, from when it is called until it returns.

    Calls count when they return, recursive ones each; one that is left by longjmp or an exception does not count.

    Examples:

        bpf2py tool funclatency libc:getaddrinfo --duration 60

        bpf2py tool funclatency libc:fread -- sort file
    """
    watch(partial(functions_tool.Funclatency, function=function), asked(pid, comm, cgroup, duration, as_json, command))


def biosnoop(
    pid: int = PID,
    comm: str = COMM,
    cgroup: str = CGROUP,
    duration: float = DURATION,
    as_json: bool = JSON,
    command: list[str] = COMMAND,
) -> None:
    """Show requests to disks when they are done: who made them, where, how large, and how long they took.

    QUE is the time until the driver had it, LAT all of it. What is written later is of a thread of the kernel.

    Examples:

        bpf2py tool biosnoop

        bpf2py tool biosnoop --json -- dd if=big of=/dev/null iflag=direct
    """
    watch(block_tool.Biosnoop, asked(pid, comm, cgroup, duration, as_json, command))


def biolatency(
    pid: int = PID,
    comm: str = COMM,
    cgroup: str = CGROUP,
    duration: float = DURATION,
    as_json: bool = JSON,
    command: list[str] = COMMAND,
) -> None:
    """Draw how long requests to disks take, queues included: a histogram for each disk.

    Examples:

        bpf2py tool biolatency --duration 10

        bpf2py tool biolatency -- sync
    """
    watch(block_tool.Biolatency, asked(pid, comm, cgroup, duration, as_json, command))
