"""Virtual machines: what runs in them, what goes in and out, and that nothing is left of them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from bpf2py.errors import GuestError
from bpf2py.testing import Guest
from bpf2py.testing.guest_files import Archive, distribution_files, program_files
from bpf2py.testing.guest_kernels import find_kernel

ONE_PROCESS = pytest.mark.xdist_group("guest")


@ONE_PROCESS
class TestGuest:
    def test_it_runs_the_kernel_asked_for(self, guest: Guest) -> None:
        assert guest.release.startswith("6.12.")
        assert guest.release != platform.release()
        assert guest.run(["python", "-c", "import os; print(os.uname().release)"]).stdout.strip() == guest.release

    def test_programs_get_their_input_environment_and_status(self, guest: Guest) -> None:
        done = guest.run(["sh", "-c", "cat; echo $X >&2; exit 3"], input="in\n" * 5000, env={"X": "here"})
        assert (done.returncode, done.stdout, done.stderr) == (3, "in\n" * 5000, "here\n")
        with pytest.raises(subprocess.CalledProcessError):
            guest.run(["sh", "-c", "exit 1"], check=True)

    def test_a_program_that_takes_too_long_is_killed_with_what_it_started(self, guest: Guest) -> None:
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            guest.run(["sh", "-c", "echo begun; cat /proc/kmsg >/dev/null & wait"], timeout=1)
        assert str(caught.value.stdout) == "begun\n"
        names = "import glob; print([open(p).read() for p in glob.glob('/proc/[0-9]*/comm')])"
        assert "'cat\\n'" not in guest.run(["python", "-c", names]).stdout

    def test_what_is_missing_is_said(self, guest: Guest) -> None:
        with pytest.raises(GuestError, match="nothing-such: No such file"):
            guest.run(["nothing-such"])
        with pytest.raises(GuestError, match="KeyError: 'NOPE'"):
            guest.call("bpf2py.features:map_type", kind="nope")
        with pytest.raises(GuestError, match="No module named"):
            guest.call("no_such_module:f")
        with pytest.raises(GuestError, match="/none: No such file"):
            guest.read("/none")
        with pytest.raises(GuestError, match="a program"):
            guest.run([])

    def test_a_call_that_dies_leaves_the_guest_alone(self, guest: Guest) -> None:
        with pytest.raises(GuestError, match="ended with status -6"):
            guest.call("os:abort")
        assert guest.call("os:getcwd") == "/"

    def test_files_go_in_and_out(self, guest: Guest) -> None:
        assert guest.read("/tmp/given") == b"given\n"
        content = os.urandom(20_000)
        guest.write("/tmp/a/b", content, 0o755)
        assert guest.read("/tmp/a/b") == content
        assert guest.run(["python", "-c", "import os; print(oct(os.stat('/tmp/a/b').st_mode))"]).stdout == "0o100755\n"

    def test_maps_and_hooks_are_the_guest_s(self, guest: Guest) -> None:
        source = (
            "from bpf2py import Map\nm = Map.create('HASH', key='u32', value='u64', max_entries=2)\n"
            "m[1] = 2\nprint(dict(m.items()))"
        )
        done = guest.run(["python", "-c", source])
        assert (done.stdout, done.stderr) == ("{1: 2}\n", "")

    def test_nothing_is_left_of_a_guest(self) -> None:
        if os.environ.get("BPF2PY_EMULATED"):
            pytest.skip("a virtual machine in a virtual machine")
        script = (
            "import os, sys\nfrom bpf2py.testing import Guest\nguest = Guest('6.12')\nprint(guest._scratch.name, flush=True)\n"
            "os.kill(os.getpid(), 9)\n"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.returncode == -9, done.stderr
        place = done.stdout.strip()
        # The emulator goes with the pipe whose other end the process held.
        pids = [p for p in os.listdir("/proc") if p.isdigit() and place in _arguments(p)]
        for pid in pids:
            _wait_for_end(int(pid))
        assert not os.path.exists(place)
        assert not [p for p in os.listdir("/proc") if p.isdigit() and place in _arguments(p)]


def _arguments(pid: str) -> str:
    try:
        return Path("/proc", pid, "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _wait_for_end(pid: int) -> None:
    import select

    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], 30)[0], f"process {pid} runs on"
    finally:
        os.close(fd)


class TestArchive:
    def test_the_kernel_s_own_format(self, tmp_path: Path) -> None:
        archive = Archive()
        archive.add("/a/b/c.txt", b"content")
        archive.add("/a/b/d", b"x" * 4097, 0o755)
        archive.symlink("/link", "a/b")
        listed = subprocess.run(
            [sys.executable, "-c", LIST], input=archive.data() + archive.data(), capture_output=True, check=True
        )
        one = ["a 40755", "a/b 40755", "a/b/c.txt 100644 7", "a/b/d 100755 4097", "link 120777 3"]
        assert listed.stdout.decode().splitlines() == one + one

    @pytest.mark.parametrize("path", ["relative", "/a/../../b"])
    def test_paths_are_absolute(self, path: str) -> None:
        with pytest.raises(GuestError, match="absolute"):
            Archive().add(path, b"")

    def test_a_file_that_is_not_there(self) -> None:
        with pytest.raises(GuestError, match="/nothing/here: No such file"):
            Archive().add("/x", Path("/nothing/here"))

    def test_programs_and_distributions(self) -> None:
        assert any("libc" in path for path in program_files(["sh"]))
        with pytest.raises(GuestError, match="no program nothing-such"):
            program_files(["nothing-such"])
        found = distribution_files(["pytest"])
        assert "/opt/bpf2py/pytest/__init__.py" in found
        assert "/opt/bpf2py/pluggy/__init__.py" in found
        with pytest.raises(GuestError, match="pip install nothing-such"):
            distribution_files(["nothing-such"])


# An independent reader of the format: names, modes and sizes of all entries but the last of each archive.
LIST = """
import sys
data, at = sys.stdin.buffer.read(), 0
while at < len(data):
    if data[at : at + 6] != b"070701":
        at += 4
        continue
    fields = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
    mode, size, length = fields[1], fields[6], fields[11]
    name = data[at + 110 : at + 110 + length - 1].decode()
    at = (at + 110 + length + 3) // 4 * 4
    at = (at + size + 3) // 4 * 4
    if name != "TRAILER!!!":
        print(f"{name} {mode:o}" + (f" {size}" if size else ""))
"""


class TestKernels:
    def test_an_image_and_a_directory_with_one(self, tmp_path: Path) -> None:
        for name in ("vmlinuz-6.9.1", "vmlinuz-6.10.2"):
            (tmp_path / name).write_bytes(b"")
        assert find_kernel(str(tmp_path), "x86_64").image.name == "vmlinuz-6.10.2"
        assert find_kernel(str(tmp_path / "vmlinuz-6.9.1"), "x86_64").image.name == "vmlinuz-6.9.1"

    @pytest.mark.parametrize(("name", "said"), [("nothing", "neither a series"), ("", "no kernel image in it")])
    def test_what_is_not_there(self, tmp_path: Path, name: str, said: str) -> None:
        with pytest.raises(GuestError, match=said):
            find_kernel(str(tmp_path / name), "x86_64")

    def test_without_apt_the_way_out_is_said(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setenv("BPF2PY_KERNEL_DIR", str(tmp_path / "kernels"))
        with pytest.raises(GuestError, match=r"no apt-get here.*path of an image"):
            find_kernel("6.12", "x86_64")

    def test_a_kernel_that_was_fetched_is_not_fetched_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setenv("BPF2PY_KERNEL_DIR", str(tmp_path))
        for version in ("6.12.9+deb12", "6.12.107+deb12"):
            boot = tmp_path / f"linux-image-{version}-amd64-unsigned" / "boot"
            boot.mkdir(parents=True)
            (boot / f"vmlinuz-{version}-amd64").write_bytes(b"")
        assert find_kernel("6.12", "x86_64").image.name == "vmlinuz-6.12.107+deb12-amd64"
        with pytest.raises(GuestError):
            find_kernel("6.1", "x86_64")

    def test_a_kernel_that_does_not_boot_is_said_with_its_console(self, tmp_path: Path) -> None:
        (tmp_path / "vmlinuz").write_bytes(b"not a kernel")
        with pytest.raises(GuestError, match="did not start"):
            Guest(str(tmp_path), timeout=20)
