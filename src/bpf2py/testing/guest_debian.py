"""Debian's packages: kernels to boot, and a Python for guests of another architecture.

A package is downloaded with `apt-get download` and unpacked with `dpkg -x`: nothing is installed, and no rights are needed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bpf2py.errors import GuestError
from bpf2py.user_cache import cache_directory

__all__ = ["DEBIAN_ARCH", "Apt", "kernel_directory", "python_tree"]

# Debian's name of an architecture, by the kernel's.
DEBIAN_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}
# Without the option apt warns that its unprivileged user cannot write where we download to.
APT_DOWNLOAD = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root"]
ATTEMPTS = 4
# Python 3.11 of Debian 12 with what its modules need, and a shell.
PYTHON = (
    "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libc6", "libgcc-s1", "libexpat1", "zlib1g", "libffi8",
    "libcrypt1", "liblzma5", "libbz2-1.0", "libuuid1", "dash",
)  # fmt: skip
PYTHON_TREE = "python3.11-debian12"


def kernel_directory() -> Path:
    """Where unpacked packages are kept: BPF2PY_KERNEL_DIR, else ``kernels`` in the cache directory."""
    named = os.environ.get("BPF2PY_KERNEL_DIR")
    return Path(named) if named else cache_directory() / "kernels"


class Apt:
    """Debian's package lists: this machine's own, or of another architecture or release some kept beside the kernels.

    Args:
        arch: ``"x86_64"`` or ``"aarch64"``.
        say: is told what takes long.
        release: one of Debian's, such as ``"stable-backports"``, from the mirror that this machine uses; None for this machine's.

    Raises GuestError without apt and dpkg, and for a release on a machine that does not run Debian.
    """

    def __init__(self, arch: str, say: Callable[[str], None] = lambda text: None, release: str | None = None) -> None:
        missing = [tool for tool in ("apt-get", "apt-cache", "dpkg") if shutil.which(tool) is None]
        if missing:
            raise GuestError(f"there is no {missing[0]} here to download Debian's packages with")
        self.arch = DEBIAN_ARCH[arch]
        self._say = say
        self._directory = kernel_directory()
        self._directory.mkdir(parents=True, exist_ok=True)
        self._options: list[str] = []
        self._whose = f"Debian {release}" if release is not None else "Debian"
        own = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True).stdout.strip()
        if own != self.arch or release is not None:
            place = self._directory / (f"apt-{self.arch}" + (f"-{release}" if release is not None else ""))
            for each in ("lists/partial", "cache/archives/partial"):
                (place / each).mkdir(parents=True, exist_ok=True)
            self._options = [
                f"-oAPT::Architecture={self.arch}",
                f"-oAPT::Architectures={self.arch}",
                f"-oDir::State::Lists={place / 'lists'}",
                f"-oDir::Cache={place / 'cache'}",
                "-oDir::State::status=/dev/null",
                "-oAPT::Sandbox::User=root",
            ]
            if release is not None:
                sources = place / "sources.list"
                sources.write_text(f"deb {_mirror()} {release} main\n")
                self._options += [f"-oDir::Etc::SourceList={sources}", "-oDir::Etc::SourceParts=/dev/null"]

    def update(self) -> None:
        """Fetch the lists."""
        self._say(f"fetching the package lists of {self._whose}")
        as_root = [] if os.geteuid() == 0 or self._options else ["sudo", "-n"]
        with contextlib.suppress(OSError):
            subprocess.run([*as_root, "apt-get", "update", "-qq", *self._options], stdin=subprocess.DEVNULL)

    def search(self, expression: str) -> list[str]:
        """Names of packages."""
        answer = subprocess.run(
            ["apt-cache", *self._options, "search", "--names-only", expression], capture_output=True, text=True
        )
        return [line.split(" ", 1)[0] for line in answer.stdout.splitlines()]

    def find(self, expression: str) -> list[str]:
        """Names of packages; the lists are fetched anew when they have none."""
        found = self.search(expression)
        if not found:
            self.update()
            found = self.search(expression)
        return found

    def unpack(self, names: Sequence[str], target: str) -> Path:
        """Download packages and unpack them into one directory of that name, which is kept. Raises GuestError."""
        place = self._directory / target
        with tempfile.TemporaryDirectory(dir=self._directory) as scratch:
            for attempt in range(1, ATTEMPTS + 1):
                what = names[0] if len(names) == 1 else f"{len(names)} packages of Debian, {names[0]} and what it needs"
                self._say(f"downloading {what}" + (f" (attempt {attempt})" if attempt > 1 else ""))
                if subprocess.run([*APT_DOWNLOAD, *self._options, *names], cwd=scratch).returncode == 0:
                    break
                if attempt == ATTEMPTS:
                    raise GuestError(f"could not download {', '.join(names)}")
                time.sleep(5 * attempt)
            unpacked = Path(scratch) / "unpacked"
            for archive in Path(scratch).glob("*.deb"):
                subprocess.run(["dpkg", "-x", archive, unpacked], check=True)
            unpacked.chmod(0o755)
            with contextlib.suppress(OSError):  # somebody else was faster
                unpacked.rename(place)  # in one step: an interrupted run leaves no half of it
        return place


def _mirror() -> str:
    """Where this machine gets Debian's packages from."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"],
        capture_output=True,
        text=True,
    )
    found = [line.split()[2] for line in listed.stdout.splitlines() if line.startswith("Debian main ")]
    archives = [uri for uri in found if "security" not in uri]
    if not archives:
        raise GuestError("this machine's apt has no lists of Debian's archive: run apt-get update, on Debian")
    return archives[0]


def python_tree(arch: str, say: Callable[[str], None]) -> Path:
    """A directory with Debian 12's Python for an architecture, downloaded unless it is there. Raises GuestError."""
    name = f"{PYTHON_TREE}-{DEBIAN_ARCH[arch]}"
    kept = kernel_directory() / name
    if kept.is_dir():
        return kept
    apt = Apt(arch, say)
    apt.find("^python3.11-minimal$")
    return apt.unpack(PYTHON, name)
