"""What every test may use: the rules of the kernel marks, mounted file systems, compiled programs, a leak check.

Tests marked ``kernel`` run where bpf() is permitted. Elsewhere they are reported as not run, in a section of their own
at the end, so that nobody takes the rest for the whole; with BPF2PY_REQUIRE_KERNEL=1 they fail instead (in virtual
machines, where nothing else would be tested).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import gc
import os
import platform
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from bpf2py.errors import GuestError
from bpf2py.testing import Guest

# No deadlines: the time an example takes says nothing. Emulated kernels, 20 times slower, get fewer examples.
settings.register_profile("bpf2py", deadline=None)
settings.register_profile("emulated", deadline=None, max_examples=20)
settings.load_profile("emulated" if os.environ.get("BPF2PY_EMULATED") == "1" else "bpf2py")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # Started in the background of a shell: what tests interrupt would inherit that, and never end.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The code of an engine of an earlier test, which its thread of timers may have had in its hands when garbage was collected.
ENGINE_CODE = "/memfd:bpf2py"
TRACEFS = Path("/sys/kernel/tracing")
BPFFS = Path("/sys/fs/bpf")
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x00020000, 0x4000, 1 << 18  # include/uapi/linux/sched.h, mount.h

libc = ctypes.CDLL(None, use_errno=True)


def bpf_refused() -> str | None:
    """Why bpf() is not permitted here, or None: creates (and closes) an array map, bypassing the library under test."""
    number = {"x86_64": 321, "aarch64": 280}.get(platform.machine())
    if number is None:
        return f"no bpf() system call number known for {platform.machine()}"
    attr = (ctypes.c_uint32 * 18)(2, 4, 4, 1)  # BPF_MAP_TYPE_ARRAY, key_size, value_size, max_entries
    fd = libc.syscall(number, 0, attr, ctypes.sizeof(attr))
    if fd < 0:
        code = ctypes.get_errno()
        return f"bpf(BPF_MAP_CREATE) says {errno.errorcode.get(code, str(code))}: {os.strerror(code)}"
    os.close(fd)
    return None


def kprobes_missing() -> str | None:
    """Why kprobes cannot work on this kernel, or None: the perf PMU kprobe (4.17) comes with CONFIG_KPROBE_EVENTS."""
    if Path("/sys/bus/event_source/devices/kprobe").exists():
        return None
    return f"kernel {platform.release()} has no kprobes (no perf PMU named kprobe: CONFIG_KPROBE_EVENTS is off)"


REFUSED = bpf_refused()
NO_KPROBES = kprobes_missing()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "since(version): the first kernel version that has what the test is about")


@pytest.fixture(autouse=True)
def new_enough(request: pytest.FixtureRequest) -> None:
    """Tests marked ``since("6.9")`` are skipped on older kernels; on newer ones the feature must be there."""
    marker = request.node.get_closest_marker("since")
    if marker is not None:
        running = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
        if running < tuple(int(part) for part in marker.args[0].split(".")):
            pytest.skip(f"kernel {platform.release()} is older than {marker.args[0]}")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--force-kprobe",
        action="store_true",
        help="run tests marked kprobe even on a kernel without kprobes (tools/vm.py does, to compile what they use)",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    required = os.environ.get("BPF2PY_REQUIRE_KERNEL") == "1"
    for item in items:
        if item.get_closest_marker("kprobe") and not item.get_closest_marker("kernel"):
            item.add_marker(pytest.mark.kernel)
        if item.get_closest_marker("kernel") and REFUSED is not None and not required:
            item.add_marker(pytest.mark.skip(reason=f"NOT RUN: {REFUSED}"))
        elif item.get_closest_marker("kprobe") and NO_KPROBES is not None and not config.getoption("--force-kprobe"):
            item.add_marker(pytest.mark.skip(reason=NO_KPROBES))


@functools.cache
def uses_kernel(file: str) -> bool:
    """Whether a file's tests look at what others do with the kernel; those of the engine only compare with it."""
    text = Path(file).read_text()
    return "/engine/" not in file and ("mark.kernel" in text or "mark.kprobe" in text)


@functools.cache
def uses_guest(file: str) -> bool:
    """Whether a file's tests run in the virtual machine of the fixture `guest`: one process starts it for all of them."""
    return "guest: Guest" in Path(file).read_text()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``pytest -n 2``: files with kernel tests run one after another in one process, as there is just one kernel."""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped, unused-ignore]

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc, unused-ignore]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            path = os.path.join(config.rootpath, file)
            return "kernel" if uses_kernel(path) else "guest" if uses_guest(path) else file

    return Scheduling(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    for mark, why in (("kernel", REFUSED), ("kprobe", NO_KPROBES)):
        count = sum(1 for report in skipped if mark in report.keywords)
        if why is not None and count:
            terminalreporter.section(f"{count} {mark.upper()} TESTS NOT RUN", sep="!", red=True, bold=True)
            terminalreporter.write_line(f"REASON: {why}")
            terminalreporter.write_line("THE REST PASSING SAYS NOTHING ABOUT THEM. `make test-vm` runs them in a VM.")
            break  # without bpf() it does not matter what else the kernel lacks


def _mount(kind: str, target: Path) -> None:
    """Mount a file system for this process and its children only: it is gone when they are, however they end."""
    if os.path.ismount(target):
        return
    if libc.unshare(CLONE_NEWNS) or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
        raise OSError(ctypes.get_errno(), "cannot make a private mount namespace")
    if libc.mount(kind.encode(), os.fsencode(target), kind.encode(), 0, None):
        raise OSError(ctypes.get_errno(), f"cannot mount {kind}", str(target))


@pytest.fixture(scope="session", autouse=True)
def kernel_file_systems(request: pytest.FixtureRequest) -> None:
    """Mount tracefs and bpffs when kernel tests are to run and the machine has not done so."""
    if REFUSED is None and any(item.get_closest_marker("kernel") for item in request.session.items):
        _mount("tracefs", TRACEFS)
        _mount("bpf", BPFFS)


@pytest.fixture(scope="session")
def tracefs(kernel_file_systems: None) -> Path:
    """The mount point of tracefs."""
    return TRACEFS


@pytest.fixture
def bpffs(kernel_file_systems: None, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A fresh directory in bpffs; what the test pins there is unpinned afterwards."""
    directory = BPFFS / f"bpf2py-{os.getpid()}-{abs(hash(request.node.nodeid)):x}"
    directory.mkdir()
    yield directory
    for parent, directories, files in os.walk(directory, topdown=False):
        for name in files:
            os.unlink(os.path.join(parent, name))
        for name in directories:
            os.rmdir(os.path.join(parent, name))
    directory.rmdir()


@pytest.fixture(scope="session")
def compile_bpf() -> Callable[[str], bytes]:
    """Compile eBPF C given as text to the bytes of an object; the same text is compiled once a session."""
    import bpf2py.toolchain.compiler

    return functools.cache(lambda text: bpf2py.toolchain.compiler.compile(text))


def open_fds() -> dict[int, str]:
    """The open file descriptors of this process and what each refers to."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the descriptor listdir() itself used
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


@contextlib.contextmanager
def no_leaks() -> Iterator[None]:
    """Fail when the block leaves file descriptors open that were not before, or closes some that it did not open."""
    gc.collect()  # garbage of earlier tests must not close its descriptors in between
    before = open_fds()
    yield
    after = open_fds()
    opened = {fd: what for fd, what in after.items() if fd not in before}
    closed = {fd: what for fd, what in before.items() if fd not in after and not what.startswith(ENGINE_CODE)}
    assert not opened, f"left open: {opened}"
    assert not closed, f"closed, though opened by others: {closed}"


@pytest.fixture(scope="session")
def element_iterators(compile_bpf: Callable[[str], bytes]) -> None:
    """Skips where a policy of the machine refuses iterators over maps' elements, though it lets those over maps load."""
    import bpf2py

    def load(target: str) -> None:
        source = f"""
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("iter/{target}") int nothing(void *ctx) {{ return 0; }}
char LICENSE[] SEC("license") = "GPL";
"""
        bpf2py.load(compile_bpf(source)).close()

    load("bpf_map")
    try:
        load("bpf_map_elem")
    except bpf2py.PermissionDenied as error:
        pytest.skip(f"NOT RUN: {error}")


@pytest.fixture
def assert_no_leaks() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """The leak check as a context manager: ``with assert_no_leaks(): ...``."""
    return no_leaks


@pytest.fixture(scope="session")
def start_guest() -> Callable[..., Guest]:
    """Starts a virtual machine. Where there is no emulator the test is skipped, but not in CI, which installs one."""

    def start(kernel: str, **options: Any) -> Guest:
        if os.environ.get("BPF2PY_EMULATED"):
            pytest.skip("a virtual machine in a virtual machine")
        emulator = f"qemu-system-{options.get('arch', 'x86_64')}"
        if shutil.which(emulator) is None and not os.environ.get("CI"):
            pytest.skip(f"{emulator} is not installed")
        try:
            return Guest(kernel, **options)
        except GuestError as error:
            if os.environ.get("CI") or "download" not in str(error):
                raise
            pytest.skip(str(error))

    return start


@pytest.fixture(scope="session")
def guest(start_guest: Callable[..., Guest]) -> Iterator[Guest]:
    """A virtual machine with Debian's 6.12, where kprobes and trampolines work, or with the kernel BPF2PY_GUEST_KERNEL names."""
    kernel = os.environ.get("BPF2PY_GUEST_KERNEL", "6.12")
    with start_guest(kernel, programs=["cat"], files={"/tmp/given": b"given\n"}) as started:
        yield started
