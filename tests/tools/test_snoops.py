"""execsnoop, opensnoop, exitsnoop, killsnoop, syscount: against what the programs they watch did, by their own account."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from bpf2py.errors import BpfError
from bpf2py.tools import framework
from bpf2py.tools.execsnoop import Execsnoop
from bpf2py.tools.framework import Filter, Table
from bpf2py.tools.killsnoop import Killsnoop
from bpf2py.tools.opensnoop import Opensnoop
from bpf2py.tools.syscount import Syscount

pytestmark = pytest.mark.kernel
Watch = Callable[..., Any]
NoLeaks = Callable[[], AbstractContextManager[None]]


def test_execsnoop_shows_every_program_and_its_arguments(watch: Watch) -> None:
    """Also of grandchildren that left their session and whose parents have gone; long and strange arguments."""
    seen = watch(
        "execsnoop",
        """
import os, subprocess
long = ["x" * 300] * 20
commands = [["/bin/true", str(i), "a b", "", "\\t;$"] for i in range(30)] + [["/bin/true", *long]]
ran = []
for argv in commands:
    process = subprocess.Popen(argv)
    process.wait()
    ran.append([process.pid, os.getpid(), argv])
reader, writer = os.pipe()
script = f"(setsid /bin/echo orphan $$ >&{writer} &) ; exec /bin/true last"
process = subprocess.Popen(["/bin/sh", "-c", script], pass_fds=[writer])
process.wait()
os.close(writer)
while os.read(reader, 4096): pass  # the orphan, which is another's child by now, has run
while True:
    try: os.wait()
    except ChildProcessError: break
tell([os.getpid(), process.pid, ran])
""",
    )
    pid, shell, ran = seen.told
    first, *rest = seen.records
    assert (first["pid"], first["args"][1], first["parent"]) == (pid, "-I", first["parent"])
    by_pid = {record["pid"]: record for record in rest}
    for child, parent, argv in ran:
        record = by_pid[child]
        assert (record["ppid"], record["comm"], record["result"]) == (parent, "true", 0)
        if record["cut"]:
            text = "\0".join(argv)
            assert "\0".join(record["args"]) == text[:4096].rstrip("\0")
        else:
            assert record["args"] == argv
    assert sum(record["cut"] for record in rest) == 1
    orphans = [record["args"] for record in rest if record["comm"] == "echo"]
    assert orphans == [["/bin/echo", "orphan", str(shell)]]
    assert [r["args"] for r in rest if r["pid"] == shell][-1] == ["/bin/true", "last"]
    assert seen.status == 0
    assert "lost" not in seen.said


def test_execsnoop_shows_attempts_that_fail(watch: Watch) -> None:
    seen = watch(
        "execsnoop --failed",
        """
import os
errors = []
for path in ["/nonexistent/%d" % i for i in range(5)] + ["/etc/hostname", "/"]:
    try: os.execv(path, ["x"])
    except OSError as error: errors.append([path, error.errno])
tell(errors)
""",
    )
    failed = [[r["args"][0], -r["result"]] for r in seen.records if r["result"]]
    assert failed == seen.told
    assert failed[-1] == ["/", errno.EACCES]


def test_opensnoop_shows_every_open_of_every_thread(watch: Watch, tmp_path: Path) -> None:
    seen = watch(
        "opensnoop",
        f"""
import os, threading
base = {str(tmp_path)!r}
done = []
def work(name):
    for i in range(50):
        path = f"{{base}}/{{name}}-{{i}}"
        try:
            fd = os.open(path, os.O_RDWR | (os.O_CREAT if i % 2 else 0), 0o640)
            done.append([threading.get_native_id(), path, fd, ""])
            os.close(fd)
        except FileNotFoundError:
            done.append([threading.get_native_id(), path, -1, "ENOENT"])
threads = [threading.Thread(target=work, args=(f"t{{n}}",)) for n in range(4)]
for t in threads: t.start()
for t in threads: t.join()
directory = os.open(base, os.O_PATH)
os.close(os.open("t0-1", os.O_RDONLY, dir_fd=directory))
try: os.open("", os.O_RDONLY)
except FileNotFoundError: pass
tell([os.getpid(), directory, done])
""",
    )
    pid, directory, done = seen.told
    found = [
        r for r in seen.records if r["path"] and r["path"].startswith(f"{tmp_path}/t") and r["path"][-4:] != "told"
    ]
    assert Counter((r["tid"], r["path"], r["fd"], r["error"]) for r in found) == Counter(tuple(each) for each in done)
    assert {r["pid"] for r in seen.records} == {pid}
    created = next(r for r in found if not r["error"])
    assert (created["flags"] & 0o3, created["flags"] & os.O_CREAT, created["mode"]) == (os.O_RDWR, os.O_CREAT, 0o640)
    assert [(r["fd"], r["error"]) for r in seen.records if r["path"] == ""] == [(-1, "ENOENT")]
    (relative,) = [r for r in seen.records if r["path"] == "t0-1"]
    assert relative["directory"] == directory


def test_exitsnoop_shows_how_every_process_ended(watch: Watch) -> None:
    """Threads are not processes; one of several threads that ends the process decides on the status."""
    seen = watch(
        "exitsnoop",
        """
import os, signal, subprocess, sys, threading, time
ended = {}
for code in range(0, 256, 15):
    pid = os.fork()
    if not pid: os._exit(code)
    ended[pid] = os.waitpid(pid, 0)[1]
for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1, signal.SIGRTMIN + 3):
    pid = os.fork()
    if not pid: time.sleep(1000)
    os.kill(pid, number)
    ended[pid] = os.waitpid(pid, 0)[1]
pid = os.fork()
if not pid:
    threads = [threading.Thread(target=lambda: None) for _ in range(5)]
    for t in threads: t.start()
    for t in threads: t.join()
    threading.Thread(target=os._exit, args=(77,)).start()
    time.sleep(1000)
ended[pid] = os.waitpid(pid, 0)[1]
tell([os.getpid(), ended])
sys.exit(5)
""",
    )
    pid, ended = seen.told
    found = {str(r["pid"]): r for r in seen.records}
    assert len(found) == len(seen.records)
    assert found.pop(str(pid))["code"] == 5
    for child, status in ended.items():
        record = found.pop(child)
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
        assert (record["code"], record["signal"]) == (code, os.WTERMSIG(status) or None)
        assert record["ppid"] == pid
        assert record["age"] >= 0
    assert not found
    assert seen.status == 5


def test_a_process_is_followed_until_its_last_thread_ends(watch: Watch) -> None:
    """Its threads are counted, also hundreds of them: those who end do not take it along, and it ends once."""
    source = """
import os, threading
go = threading.Event()
threads = [threading.Thread(target=go.wait) for _ in range(300)]
for t in threads: t.start()
go.set()
for t in threads: t.join()
for _ in range(123): os.getppid()
stays = [threading.Thread(target=threading.Event().wait, daemon=True) for _ in range(20)]
for t in stays: t.start()
tell(os.getpid())
os._exit(3)
"""
    seen = watch("syscount --top 1000", source)
    assert {r["syscall"]: r["count"] for r in seen.records}["getppid"] == 123
    seen = watch("exitsnoop", source)
    assert [(r["pid"], r["code"]) for r in seen.records] == [(seen.told, 3)]
    assert "not followed" not in seen.said


def test_killsnoop_shows_every_signal_sent(watch: Watch) -> None:
    seen = watch(
        "killsnoop",
        """
import os, signal, threading
signal.signal(signal.SIGUSR1, lambda *_: None)
me = os.getpid()
sent = []
for number in (0, signal.SIGUSR1):
    os.kill(me, number); sent.append(["kill", me, int(number), ""])
signal.pthread_kill(threading.get_ident(), signal.SIGUSR1); sent.append(["tgkill", threading.get_native_id(), 10, ""])
try: os.kill(2 ** 22 + 5, 9)
except ProcessLookupError: sent.append(["kill", 2 ** 22 + 5, 9, "ESRCH"])
fd = os.pidfd_open(me)
signal.pidfd_send_signal(fd, signal.SIGUSR1); sent.append(["pidfd_send_signal", fd, 10, ""])
os.setpgid(0, 0)
os.kill(-me, 0); sent.append(["kill", -me, 0, ""])
tell(sent)
""",
    )
    assert [[r["call"], r["target"], r["number"], r["error"]] for r in seen.records] == seen.told
    assert {r["signal"] for r in seen.records} == {"0", "SIGUSR1", "SIGKILL"}


@pytest.mark.parametrize("options", ["", "--latency"])
def test_syscount_counts_exactly(watch: Watch, options: str) -> None:
    seen = watch(
        f"syscount --top 1000 {options}",
        """
import os
before = os.times()
for _ in range(4321): os.getppid()
for _ in range(123):
    try: os.close(9999)
    except OSError: pass
tell(0)
os._exit(0)
""",
    )
    counts = {r["syscall"]: r for r in seen.records}
    assert counts["getppid"]["count"] == 4321
    if options:
        assert counts["close"]["failed"] == 123
        assert counts["getppid"]["failed"] == 0
        assert counts["getppid"]["time_us"] > 0
        assert "exit_group" not in counts  # it does not return
    else:
        assert counts["exit_group"]["count"] == 1


def test_syscount_of_failures_and_processes(watch: Watch) -> None:
    source = """
import os
pids = []
for n in range(4):
    pid = os.fork()
    if not pid:
        for _ in range(100 * n):
            try: os.close(9999)
            except OSError: pass
        os._exit(0)
    os.waitpid(pid, 0)
    pids.append(pid)
tell(pids)
"""
    seen = watch("syscount --top 1000 --process --errno ebadf", source)
    counts = {r["pid"]: r["count"] for r in seen.records}
    assert [counts.get(pid, 0) for pid in seen.told] == [0, 100, 200, 300]


# -- what all have in common -----------------------------------------------------------------------------------------


def counts_of(tool: Syscount) -> dict[str, int]:
    (table,) = tool.results()
    assert isinstance(table, Table)
    return {row["syscall"]: row["count"] for row in table.rows}


@pytest.fixture
def cgroup() -> Iterator[Path]:
    root = next(
        p for p in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")) if (p / "cgroup.controllers").exists()
    )
    group = root / f"bpf2py-tools-{os.getpid()}"
    (group / "inner").mkdir(parents=True)
    yield group
    (group / "inner").rmdir()
    group.rmdir()


def other(source: str, group: Path | None = None) -> int:
    """Run a program in a process of its own; its pid."""
    join = f"import os; open('{group}/cgroup.procs', 'w').write(str(os.getpid()))\n" if group else "import os\n"
    process = subprocess.Popen([sys.executable, "-I", "-c", join + source])
    assert process.wait() == 0
    return process.pid


CALLS = "for _ in range(500): os.getppid()"


def test_filters(cgroup: Path, assert_no_leaks: NoLeaks) -> None:
    """By process, thread name and control group: the same calls by somebody else do not count."""
    with assert_no_leaks():
        with Syscount(Filter(pid=os.getpid()), top=1000) as tool:
            tool.start()
            for _ in range(321):
                os.getppid()
            other(CALLS)
            tool.stop()
            assert counts_of(tool)["getppid"] == 321
        with Syscount(Filter(comm="a-name-that-is-cut"), top=1000) as tool:
            tool.start()
            other("open('/proc/self/comm', 'w').write('a-name-that-is-cut')\n" + CALLS)
            other("open('/proc/self/comm', 'w').write('a-name-that')\n" + CALLS)
            assert counts_of(tool)["getppid"] == 500
        with Syscount(Filter(cgroup=str(cgroup)), top=1000) as tool:
            tool.start()
            other(CALLS, cgroup / "inner")
            other(CALLS)
            assert counts_of(tool)["getppid"] == 500
    with pytest.raises(BpfError, match="not the directory of a control group"):
        Syscount(Filter(cgroup="/etc"))


def test_what_is_lost_is_counted(tmp_path: Path) -> None:
    """The ring is not read while more files are opened than it holds."""
    path = str(tmp_path / "file")
    Path(path).touch()
    with Opensnoop(Filter(pid=os.getpid())) as tool:
        tool.start()
        for _ in range(4000):
            os.close(os.open(path, os.O_RDONLY))
        tool.stop()
        seen = sum(record["path"] == path for record in tool.records())
        (problem,) = tool.problems
    lost = int(problem.split()[0])
    assert seen > 1000
    assert seen + lost == 4000


def test_nothing_stays_open(assert_no_leaks: NoLeaks) -> None:
    """Not after a start, a failure in the middle of it, nor when it is closed twice."""
    with assert_no_leaks():
        for make in (Execsnoop, Killsnoop, Syscount):
            with make(Filter(command=True)) as tool:
                tool.start()
            tool.close()

        class Broken(Syscount):
            def attach(self) -> None:
                super().attach()
                raise BpfError("no")

        with pytest.raises(BpfError), Broken(Filter(command=True)) as tool:
            tool.start()


def test_every_tool_in_python_takes_whom_it_watches_from_one_file() -> None:
    sources = {p.name: p.read_text() for p in Path(framework.program_path("tree")).parent.glob("*.py")}
    assert [name for name, text in sources.items() if "def is_wanted" in text] == ["whom.py"]
    assert sum("from .whom import *" in text for text in sources.values()) >= 15


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_all_it_counted(number: int) -> None:
    argv = [sys.executable, "-m", "bpf2py", "tool", "syscount", "--pid", str(os.getpid()), "-T", "1000"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "Ctrl-C" in process.stderr.readline()
    for _ in range(777):
        os.getppid()
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else 0)
    heading, *rows = out.splitlines()
    assert heading.split() == ["SYSCALL", "COUNT"]
    assert ["getppid", "777"] in [row.split() for row in rows]


def test_duration_ends_the_command(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "bpf2py", "tool", "execsnoop", "--duration", "1", "--json", "--"]
    script = f"echo $$ > {tmp_path}/pid; while :; do sleep 1000; done"
    done = subprocess.run([*argv, "sh", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert json.loads(done.stdout.splitlines()[0])["comm"] == "sh"
    assert "ended the command" in done.stderr
    stat = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    try:
        state = stat.read_text().rpartition(")")[2].split()[0]
    except OSError:
        state = "X"
    assert state in "ZX"  # nobody may have waited for it yet


def test_wrong_usage() -> None:
    def fails(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "bpf2py", "tool", *words], capture_output=True, text=True, timeout=60
        )
        assert done.returncode in (1, 2)
        assert done.stdout == ""
        return done.stderr

    assert "no process" in fails("syscount", "--pid", "4999999")
    assert "ENOENT" in fails("syscount", "--errno", "nonsense")
    assert "cannot run /nonexistent" in fails("execsnoop", "--json", "--", "/nonexistent")
    assert "No such command" in fails("nonsense")
