"""profile, offcputime, pyprofile, pyoffcpu: against what the programs they watch measured themselves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from tests.tools.conftest import EMULATED, TIMEOUT

from bpf2py.tools.framework import Filter, Flames
from bpf2py.tools.python import Pyoffcpu, Pyprofile

pytestmark = pytest.mark.kernel
Watch = Callable[..., Any]

C_PROGRAM = """
#include <time.h>
static volatile unsigned long counter;
__attribute__((noinline)) void spin(long rounds) { for (long i = 0; i < rounds; i++) counter += i; }
__attribute__((noinline)) void outer(void) { spin(5000000); counter++; }
static double used(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}
int main(void) { while (used() < SECONDS) outer(); return 0; }
"""


def tool(*words: str) -> list[dict[str, Any]]:
    argv = [sys.executable, "-m", "bpf2py", "tool", *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def total(rows: list[dict[str, Any]], unit: str, *names: str) -> int:
    """What the stacks that have all of these functions count."""
    return sum(
        row.get(unit, 0)
        for row in rows
        if all(any(each.startswith(name) for each in row.get("stack", [])) for name in names)
    )


def test_profile_names_the_leaf_and_its_callers(tmp_path: Path) -> None:
    source = tmp_path / "spin.c"
    source.write_text(C_PROGRAM)
    cc = shutil.which("cc")
    command = [cc] if cc is not None else [sys.executable, "-m", "ziglang", "cc"]
    program = tmp_path / "spin"
    seconds = f"-DSECONDS={10 if EMULATED else 1}"  # it must not have ended when its functions are named
    subprocess.run([*command, "-O0", seconds, "-fno-omit-frame-pointer", str(source), "-o", str(program)], check=True)
    rows = tool("profile", "--frequency", "997", "--json", "--comm", "spin", "--", str(program))
    samples = total(rows, "samples")
    assert samples > 500  # a second of CPU time
    share = 0.85 if EMULATED else 0.99  # of the rest the dynamic loader has most
    assert total(rows, "samples", "main", "outer", "spin") >= share * samples
    for row in rows:
        if "problems" in row:  # on a busy machine the last stacks of all may be looked at too late, which is said
            continue
        assert row["stack"][0] == "spin"  # the process
        assert "outer" not in row["stack"] or row["stack"][row["stack"].index("outer") - 1] == "main"


BUSY = """
import os, threading, time
used = {}
def burn(seconds):
    begin = time.thread_time()
    while time.thread_time() - begin < seconds:
        sum(range(2000))
    used[threading.current_thread().name] = time.thread_time() - begin
def long():
    burn(0.9)
def short():
    burn(0.3)
threads = [threading.Thread(target=f, name=f"{f.__name__}{n}") for n in range(2) for f in (long, short)]
for t in threads: t.start()
for t in threads: t.join()
tell([used, sum(os.times()[:2])])
"""


def test_pyprofile_shares_time_as_the_program_did(watch: Watch) -> None:
    """Of four threads; each sample is in the lines of its function, below the function that started the thread."""
    seen = watch("pyprofile --frequency 499", BUSY)
    rows = [row for row in seen.records if "stack" in row]
    used, cpu = seen.told
    shares = Counter({name.rstrip("01"): 0.0 for name in used})
    for name, seconds in used.items():
        shares[name.rstrip("01")] += seconds
    long, short = total(rows, "samples", "long "), total(rows, "samples", "short ")
    assert long + short > 0.5 * 499 * (shares["long"] + shares["short"])
    assert long + short < 1.2 * 499 * cpu
    assert abs(long / (long + short) - shares["long"] / (shares["long"] + shares["short"])) < 0.07
    assert total(rows, "samples", "Thread._bootstrap", "long ") == long
    lines = {name for row in rows for name in row["stack"] if name.startswith("burn (watched.py")}
    first = BUSY.splitlines().index("def burn(seconds):") + 1 + 2  # after the lines of the fixture
    assert {int(name.rpartition(":")[2].rstrip(")")) - first for name in lines} <= {1, 2, 3, 4}


def test_pyprofile_without_native_frames(watch: Watch) -> None:
    seen = watch("pyprofile --frequency 499 --no-native", BUSY)
    rows = [row for row in seen.records if "stack" in row]
    assert total(rows, "samples", "long ", "burn ") > 50
    assert {row["stack"][-1].rpartition("(")[2].split(":")[0] for row in rows if len(row["stack"]) > 4} >= {
        "watched.py"
    }
    assert not [name for row in rows for name in row["stack"] if name.endswith("_[k]")]


WAITING = """
import threading, time
lock = threading.Lock()
measured = {}
def sleeper():
    begin = time.monotonic()
    for _ in range(10): time.sleep(0.03)
    measured["sleeper"] = time.monotonic() - begin
def waiter():
    begin = time.monotonic()
    lock.acquire()
    measured["waiter"] = time.monotonic() - begin
lock.acquire()
threads = [threading.Thread(target=sleeper), threading.Thread(target=waiter)]
for t in threads: t.start()
threads[0].join()
lock.release()
threads[1].join()
tell(measured)
"""


def missing(rows: list[dict[str, Any]]) -> int:
    """Microseconds of the sleeps whose end the kernel did not report, as some do on a machine under load."""
    problems = [each for row in rows for each in row.get("problems", ()) if "waits are missing" in each]
    return sum(int(each.split()[0]) for each in problems) * 30_000


def test_pyoffcpu_measures_waits_by_line(watch: Watch) -> None:
    """Not less than was slept, not more than the program's own clock says."""
    seen = watch("pyoffcpu", "import time; time.sleep(0.2)\n" + WAITING)
    rows = [row for row in seen.records if "stack" in row]
    slept = total(rows, "microseconds", "sleeper ")
    assert 0.9 * 300_000 - missing(seen.records) <= slept <= seen.told["sleeper"] * 1e6
    waited = total(rows, "microseconds", "waiter ")
    assert missing(seen.records) or 0.9 * seen.told["waiter"] * 1e6 <= waited
    assert waited <= seen.told["waiter"] * 1e6
    names = [name for row in rows for name in row["stack"]]
    assert "schedule_[k]" in names
    assert not [name for name in names if name.startswith(("bpf_prog_", "bpf_trace_run"))]


def test_offcputime_measures_waits(watch: Watch) -> None:
    seen = watch("offcputime", WAITING)
    slept = total(seen.records, "microseconds", "hrtimer_nanosleep_[k]")
    assert 0.9 * 300_000 - missing(seen.records) <= slept <= seen.told["sleeper"] * 1e6


@pytest.fixture
def stuck() -> Iterator[subprocess.Popen[str]]:
    """A process that waits in a function of this name for ever."""
    source = "import threading\ndef stuck_here():\n  threading.Event().wait()\nprint('x', flush=True)\nstuck_here()"
    process = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def test_waits_that_last_count_up_to_the_end(watch: Watch) -> None:
    """The command never comes back from its wait."""
    source = (
        "import threading, time\ntell(1)\ntime.sleep(0.3)\ndef stuck_here():\n  threading.Event().wait()\nstuck_here()"
    )
    duration = 30 if EMULATED else 1.5  # Python starts meanwhile
    for name, frame in (("pyoffcpu", "stuck_here"), ("offcputime", "futex_wait")):
        seen = watch(f"{name} --duration {duration}", source)
        assert total(seen.records, "microseconds", frame) > 500_000, seen


def test_a_process_that_runs_already(assert_no_leaks: Callable[[], AbstractContextManager[None]]) -> None:
    """It is found by its pid, by all processes being looked at, and named; and nothing stays open."""
    source = "print(1, flush=True)\ndef turning():\n  while True: pass\nturning()"
    process = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        Pyprofile(Filter(pid=os.getpid())).close()  # the kernel's types stay open
        with assert_no_leaks():
            for wanted in (Filter(pid=process.pid), Filter()):
                with Pyprofile(wanted, frequency=499, native=False) as profiler:
                    profiler.start()
                    deadline = time.monotonic() + 30
                    while profiler.stacks.total < 50 and time.monotonic() < deadline:
                        assert list(profiler.records()) == []
                    profiler.stop()
                    names = [name for stack, _ in profiler.stacks.items() for name in stack]
                    assert "turning (<string>:3)" in names
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("same", [False, True], ids=["other addresses", "the same addresses"])
def test_what_runs_after_exec_is_another_program(tmp_path: Path, same: bool) -> None:
    """A shell becomes Python, and Python becomes Python: neither the processes nor what is known of the first stay."""
    burn = f"  end = time.process_time() + {5 if EMULATED else 0.5}\n  while time.process_time() < end: pass\n"
    second = tmp_path / "second.py"
    second.write_text(f"import time\ndef second():\n{burn}second()")
    first = tmp_path / "first.py"
    first.write_text(
        f"import os, sys, time\ndef first():\n{burn}first()\nos.execv(sys.executable, [sys.executable, {str(second)!r}])"
    )
    place = ["setarch", "-R"] if same else []  # without randomisation both programs lie where the other did
    rows = tool("pyprofile", "-F", "499", "--json", "--", *place, "sh", "-c", f"exec {sys.executable} {first}")
    least = 10 if EMULATED else 50
    assert total(rows, "samples", "first ") > least
    assert total(rows, "samples", "second ") > least
    assert total(rows, "samples", "first ", "second ") == 0


def test_files(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import time\ndef nap():\n  for _ in range(5): time.sleep(0.02)\ntime.sleep(0.2)\nnap()")
    for name, begin in (("x.html", b"<!"), ("x.folded", b"py"), ("x.speedscope.json", b"{"), ("x.pb.gz", b"\x1f\x8b")):
        path = tmp_path / name
        argv = [sys.executable, "-m", "bpf2py", "tool", "pyoffcpu", "--no-native", "-o", str(path)]
        done = subprocess.run([*argv, "--", sys.executable, str(script)], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert f"wrote {path}" in done.stderr
        assert path.read_bytes().startswith(begin)
    assert "nap (script.py:3)" in (tmp_path / "x.folded").read_text()
    wrong = subprocess.run([*argv[:-1], "x.png"], capture_output=True, text=True, timeout=60)
    assert wrong.returncode == 1
    assert ".html" in wrong.stderr


def test_results_of_nothing() -> None:
    with Pyoffcpu(Filter(pid=os.getpid())) as waits:
        (flames,) = waits.results()
        assert isinstance(flames, Flames)
        assert flames.stacks.total == 0
