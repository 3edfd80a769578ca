"""Run the kernel tests in one of Debian's kernels, booted under emulation with virtme-ng.

The kernel comes from Debian's own archive (apt-get download, unpacked with dpkg, nothing is installed) and is kept in
.vm/ or in $BPF2PY_KERNEL_DIR. The guest sees the root file system of this machine read-only, so it runs this very checkout
with this very interpreter; only the results directory is writable. KVM is never used: where nested it tends to hang.

    python tools/vm.py [--kernel 6.12] [--hooks] [--timeout SECONDS] [--exec COMMAND] [-- PYTEST ARGUMENTS]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bpf2py.errors import BpfError
from bpf2py.testing.guest_kernels import find_kernel

ROOT = Path(__file__).resolve().parent.parent
NEEDED = {
    "apt-get": "apt",
    "dpkg": "dpkg",
    "qemu-system-x86_64": "qemu-system-x86",
    "depmod": "kmod",
    "busybox": "busybox-static",
}
# What kernels without kprobes, trampolines and the like refuse; with --hooks that alone.
HOOKS = ["-m", "kprobe", "tests/attach", "tests/test_examples.py", "tests/lang", "tests/kernel/test_modules.py"]
HOOKS += ["tests/tools/test_kernel_functions.py", "tests/tools/test_prog_counters.py::test_every_run_is_counted"]
HOOKS += ["tests/export/test_web_server.py"]
# Hooks, loading, and one test file for each kind of map, in a few minutes of emulation. Everything else runs with arguments of
# one's own: make test-vm PYTEST_ARGS="-m kernel tests"
SELECTION = ["-m", "kernel", "tests/attach", "tests/test_examples.py"] + [
    f"tests/kernel/test_{name}.py"
    for name in (
        "externs",
        "features", "programs", "modules", "hash", "array", "percpu", "lru", "lpm", "queue_stack", "map_of_maps",
    )
]  # fmt: skip
# Pages of the documentation whose programs other kernels refuse.
SELECTION += [f"tests/test_docs.py::test_page[hooks/{name}.md]" for name in ("kprobe", "fentry", "lsm")]
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# A second mount of the root file system, cached by the guest: importing Python modules takes half the time over it.
CACHED_ROOT = (
    "-fsdev local,id=cached,path=/,security_model=none,readonly=on,multidevs=remap "
    "-device virtio-9p-pci,fsdev=cached,mount_tag=cached"
)


class Failure(Exception):
    """Something outside the tests went wrong; str() is what to tell the developer."""


class GuestDied(Failure):
    """The emulator ended before the tests did."""


def say(text: str) -> None:
    """Report progress at once, also into a pipe."""
    print(f"vm: {text}", flush=True)


def check_tools() -> None:
    """Raise Failure naming every missing program and the command that installs them."""
    if platform.machine() != "x86_64":
        raise Failure(f"only x86-64 kernels are booted, this machine is {platform.machine()}")
    missing = {name: package for name, package in NEEDED.items() if shutil.which(name) is None}
    if missing:
        raise Failure(
            f"missing {', '.join(missing)}; on Debian: "
            f"apt-get install --no-install-recommends {' '.join(missing.values())}"
        )


def guest_script(results: Path, command: str) -> str:
    """What the guest runs: it logs to files in the results directory, because vng loses a piped stdout."""
    # Cached copies of the trees Python reads most, over the very same paths.
    trees = [str(ROOT), sysconfig.get_path("stdlib")]
    environment = {
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "HOME": "/root",
        "PATH": f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "BPF2PY_CACHE_DIR": str(results / "cache"),
        "BPF2PY_REQUIRE_KERNEL": "1",
        "BPF2PY_EMULATED": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": "/run/hypothesis",
        "TMPDIR": "/run/scratch",
    }
    lines = [
        f"exec >{shlex.quote(str(results / 'output'))} 2>&1",
        "ip link set lo up",
        "mkdir -p /run/cached /run/scratch",
        "mount -t tmpfs tmpfs /run/scratch",
        "mount -t 9p -o ro,version=9p2000.L,trans=virtio,access=any,msize=524288,cache=loose cached /run/cached",
        *(f"mount --bind /run/cached{shlex.quote(tree)} {shlex.quote(tree)}" for tree in trees),
        f"cd {shlex.quote(str(ROOT))}",
        *(f"export {name}={shlex.quote(value)}" for name, value in environment.items()),
        f"( {command} )",
        f"echo $? >{shlex.quote(str(results / 'status.part'))}",
        f"mv {shlex.quote(str(results / 'status.part'))} {shlex.quote(str(results / 'status'))}",
    ]
    return "\n".join(lines) + "\n"


def follow(process: subprocess.Popen[bytes], output: Path, deadline: float) -> bool:
    """Copy what the guest writes to our stdout while it runs; False when the deadline passed first."""
    with output.open("rb") as stream:
        while True:
            ended = process.poll() is not None  # before the read, so that the last read misses nothing
            sys.stdout.buffer.write(stream.read())
            sys.stdout.flush()
            if ended:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)


@contextlib.contextmanager
def process_group(argv: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with all it starts (vng starts qemu), killed at the end of the block if it still runs."""
    # A signal that comes while it starts waits, until the block that kills it is entered.
    former = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        with log.open("wb") as stream:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, former),
            )
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
        raise
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def end_by_exception() -> None:
    """Let SIGTERM and SIGHUP end this process as Ctrl-C does, so that what is running is killed on the way out."""

    def end(number: int, _frame: object) -> None:
        for each in ENDING:
            signal.signal(each, signal.SIG_IGN)  # a second one must not interrupt the end
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(number, end)


def boot(kernel: Path, command: str, results: Path, timeout: float, memory: str, cpus: int) -> int:
    """Boot the kernel, run the command in the guest and return its exit status."""
    vng = Path(sys.executable).parent / "vng"
    if not vng.exists():
        raise Failure(f"{vng} is not there; install it with: pip install -e .[vm]")
    script, output, status = results / "guest.sh", results / "output", results / "status"
    script.write_text(guest_script(results, command))
    output.touch()
    argv = [str(vng), "--disable-kvm", "-m", memory, "--cpus", str(cpus), f"--rwdir={results}"]
    argv += [f"--qemu-opts={CACHED_ROOT}", "--run", str(kernel), "--user", "root", "--exec", f"bash {script}"]
    environment = dict(os.environ, PATH=f"{vng.parent}:{os.environ['PATH']}", TMPDIR=str(results))
    started = time.monotonic()
    with process_group(argv, environment, results / "vng.log") as process:
        finished = follow(process, output, started + timeout)
    say(f"guest ran for {time.monotonic() - started:.0f} s")
    if not finished:
        raise Failure(f"no end after {timeout:.0f} s, the guest was killed")
    if not status.exists():
        log = (results / "vng.log").read_text(errors="replace")
        raise GuestDied(f"the guest ended without a result; vng exit status {process.returncode}, its output:\n{log}")
    return int(status.read_text())


def fill_cache(arguments: list[str], cache: Path) -> None:
    """Run the tests here first, only so that what they compile is compiled: the guest takes 20 times as long for it.

    That is the eBPF programs, but also the modules of Python.
    """
    say("compiling what the tests use here (results of this run do not count)")
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--force-kprobe", "-q", *arguments]
    environment = dict(os.environ, BPF2PY_CACHE_DIR=str(cache))
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with (cache.parent / "host.log").open("wb") as log:
        subprocess.run(argv, cwd=ROOT, stdout=log, stderr=log, env=environment, timeout=600)


def main() -> int:
    """Parse the command line, boot, and pass the guest's exit status on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", default="6.12", help="kernel series, such as 5.10, 6.12 or 7.2")
    parser.add_argument("--hooks", action="store_true", help="run the tests of kprobes, fentry, LSM and the like alone")
    parser.add_argument("--timeout", type=float, default=900, help="seconds until the guest is killed")
    parser.add_argument("--memory", default="2G")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--exec", dest="command", help="run this shell command in the guest instead of the tests")
    parser.add_argument("--coverage", type=Path, help="a folder for what tools/measure_coverage.py reads")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest, default: the kernel tests")
    options = parser.parse_args()
    end_by_exception()
    cache = Path(os.environ.setdefault("BPF2PY_KERNEL_DIR", str(ROOT / ".vm")))
    cache.mkdir(parents=True, exist_ok=True)
    selection = options.pytest or (HOOKS if options.hooks else SELECTION)
    with tempfile.TemporaryDirectory(prefix="bpf2py-vm-") as scratch:
        results = Path(scratch)
        try:
            check_tools()
            kernel = find_kernel(options.kernel, platform.machine(), say, modules=True).image
            compiled = Path(os.environ.get("BPF2PY_CACHE_DIR") or cache / "cache")
            compiled.mkdir(parents=True, exist_ok=True)
            command = options.command
            if command is None:
                fill_cache(selection, compiled)
                measured = ["coverage", "run", f"--data-file={results}/coverage", "-m"] if options.coverage else []
                command = shlex.join(
                    ["python", "-m", *measured, "pytest", "-p", "no:cacheprovider", "--timeout=300", *selection]
                )
            shutil.copytree(compiled, results / "cache")
            say(f"booting {kernel.name} under emulation: {command}")
            try:
                status = boot(kernel, command, results, options.timeout, options.memory, options.cpus)
            except GuestDied as error:
                # Seen now and then on loaded machines. Once more, and loudly: a guest that dies twice has a reason.
                say(f"{error}\nvm: THE GUEST DIED, BOOTING IT ONCE MORE")
                status = boot(kernel, command, results, options.timeout, options.memory, options.cpus)
            if options.coverage:
                options.coverage.mkdir(exist_ok=True)
                for found in results.glob("coverage*"):
                    shutil.copy(found, options.coverage / found.name.replace("coverage", "vm", 1))
            return status
        except (Failure, BpfError, subprocess.SubprocessError, OSError) as error:
            print(f"vm: {error}", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main())
