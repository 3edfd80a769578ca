"""What this machine allows the process to do with bpf(), read from /proc and /sys.

`Environment.read()` only reads files; `explain_eperm()` turns it into the reason a PermissionDenied names.

Sources of the facts: capabilities(7), Documentation/admin-guide/sysctl/{kernel,net}.rst, Documentation/admin-guide/
perf-security.rst, kernel/bpf/syscall.c (which capability each command asks for; CAP_BPF and CAP_PERFMON exist since 5.8
and CAP_SYS_ADMIN stands for both).
"""

from __future__ import annotations

import os
import sys

from bpf2py._typing import NamedTuple
from bpf2py.kernel.memlock import MEMLOCK_UNTIL

OLDEST = (5, 10)

# include/uapi/linux/capability.h, in order of their numbers.
CAPABILITIES = (
    "CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID "
    "CAP_SETPCAP CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW "
    "CAP_IPC_LOCK CAP_IPC_OWNER CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT "
    "CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_NICE CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD "
    "CAP_LEASE CAP_AUDIT_WRITE CAP_AUDIT_CONTROL CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG "
    "CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_AUDIT_READ CAP_PERFMON CAP_BPF CAP_CHECKPOINT_RESTORE"
).split()
WANTED = ("CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN")

# What a command asks for when the process holds no CAP_SYS_ADMIN, which always is enough.
_COMMAND_NEEDS: dict[str, tuple[str, ...]] = {
    "BPF_MAP_CREATE": ("CAP_BPF",),
    "BPF_BTF_LOAD": ("CAP_BPF",),
    "BPF_MAP_FREEZE": ("CAP_BPF",),
    "BPF_PROG_LOAD": ("CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"),
    "BPF_PROG_TEST_RUN": ("CAP_BPF",),
    "BPF_RAW_TRACEPOINT_OPEN": ("CAP_PERFMON",),
    "BPF_LINK_CREATE": ("CAP_PERFMON", "CAP_NET_ADMIN"),
    "BPF_PROG_ATTACH": ("CAP_NET_ADMIN",),
    "BPF_PROG_DETACH": ("CAP_NET_ADMIN",),
    "BPF_PROG_QUERY": ("CAP_NET_ADMIN",),
    "BPF_PROG_BIND_MAP": ("CAP_BPF",),
    "BPF_MAP_GET_FD_BY_ID": ("CAP_SYS_ADMIN",),
    "BPF_PROG_GET_FD_BY_ID": ("CAP_SYS_ADMIN",),
    "BPF_BTF_GET_FD_BY_ID": ("CAP_SYS_ADMIN",),
    "BPF_LINK_GET_FD_BY_ID": ("CAP_SYS_ADMIN",),
    "BPF_MAP_GET_NEXT_ID": ("CAP_SYS_ADMIN",),
    "BPF_PROG_GET_NEXT_ID": ("CAP_SYS_ADMIN",),
    "BPF_BTF_GET_NEXT_ID": ("CAP_SYS_ADMIN",),
    "BPF_LINK_GET_NEXT_ID": ("CAP_SYS_ADMIN",),
    "BPF_TASK_FD_QUERY": ("CAP_SYS_ADMIN",),
    "BPF_ENABLE_STATS": ("CAP_SYS_ADMIN",),
    "perf_event_open": ("CAP_PERFMON",),
}
# On these EPERM speaks of the map or its descriptor, not of the process.
_MAP_COMMANDS = frozenset(
    "BPF_MAP_" + name
    for name in "LOOKUP_ELEM UPDATE_ELEM DELETE_ELEM GET_NEXT_KEY LOOKUP_AND_DELETE_ELEM LOOKUP_BATCH "
    "LOOKUP_AND_DELETE_BATCH UPDATE_BATCH DELETE_BATCH".split()
)
SYSCTLS = {
    "kernel.unprivileged_bpf_disabled": "kernel/unprivileged_bpf_disabled",
    "net.core.bpf_jit_enable": "net/core/bpf_jit_enable",
    "kernel.perf_event_paranoid": "kernel/perf_event_paranoid",
    "kernel.kptr_restrict": "kernel/kptr_restrict",
}
MOUNTS = {
    "tracefs": "mount -t tracefs tracefs /sys/kernel/tracing",
    "bpf": "mount -t bpf bpf /sys/fs/bpf",
    "cgroup2": "mkdir -p /run/cgroup2 && mount -t cgroup2 none /run/cgroup2",
}


def _text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return None


def _number(path: str) -> int | None:
    text = _text(path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def _version(release: str) -> tuple[int, int]:
    """The first two numbers of a kernel release; zeros where it has none."""
    numbers = []
    for part in release.split("-")[0].split(".")[:2]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        numbers.append(int(digits) if digits else 0)
    return (numbers[0], numbers[1] if len(numbers) > 1 else 0)


def _mount_points(table: str) -> dict[str, str]:
    """First mount point of each file system type in /proc/self/mounts, whose fields escape blanks in octal."""
    found: dict[str, str] = {}
    for line in table.splitlines():
        fields = line.split(" ")
        if len(fields) > 2:
            found.setdefault(fields[2], fields[1].replace("\\040", " "))
    return found


class Environment(NamedTuple):
    """What files say about the kernel and the process.

    Attributes:
        release: as `uname -r` prints it; `version` is its first two numbers.
        btf: whether the kernel offers its own BTF (CONFIG_DEBUG_INFO_BTF).
        uid: effective user id of the process.
        capabilities: names in the effective set of this process.
        user_namespace: whether the process sits in a user namespace of its own, whose capabilities bpf() ignores.
        seccomp: 0 off, 1 strict, 2 filter; None when the kernel lacks it.
        sysctls: by name; those the kernel does not have are missing.
        lockdown: ``"none"``, ``"integrity"`` or ``"confidentiality"``.
        mounts: file system type -> first mount point.
        kprobes, uprobes: whether perf can create them (CONFIG_KPROBE_EVENTS, CONFIG_UPROBE_EVENTS).
        memlock: soft RLIMIT_MEMLOCK in bytes, None when unlimited.
        sysfs: whether /sys is there to tell.
    """

    release: str
    btf: bool
    uid: int
    capabilities: frozenset[str]
    user_namespace: bool
    seccomp: int | None
    sysctls: dict[str, int]
    lockdown: str
    mounts: dict[str, str]
    kprobes: bool
    uprobes: bool
    memlock: int | None
    sysfs: bool = True

    @classmethod
    def read(cls, root: str = "") -> Environment:
        """Read everything below `root`, which tests use; never raises, what cannot be read counts as not there."""
        status: dict[str, str] = {}
        for line in (_text(f"{root}/proc/self/status") or "").splitlines():
            name, _, value = line.partition(":")
            status[name] = value.strip()
        effective = int(status.get("CapEff", "0"), 16)
        names = frozenset(name for number, name in enumerate(CAPABILITIES) if effective >> number & 1)
        sysctls = {name: _number(f"{root}/proc/sys/{path}") for name, path in SYSCTLS.items()}
        lockdown = _text(f"{root}/sys/kernel/security/lockdown") or "[none]"
        uid_map = (_text(f"{root}/proc/self/uid_map") or "0 0 4294967295").split()
        memlock: int | None = None
        for line in (_text(f"{root}/proc/self/limits") or "").splitlines():
            if line.startswith("Max locked memory"):
                soft = line.split()[3]
                memlock = None if soft == "unlimited" else int(soft)
        devices = f"{root}/sys/bus/event_source/devices"
        return cls(
            release=(_text(f"{root}/proc/sys/kernel/osrelease") or "0.0").strip(),
            btf=os.path.exists(f"{root}/sys/kernel/btf/vmlinux"),
            uid=int((status.get("Uid") or "0 0").split()[1]),
            capabilities=names,
            user_namespace=uid_map != ["0", "0", "4294967295"],
            seccomp=int(status["Seccomp"]) if "Seccomp" in status else None,
            sysctls={name: value for name, value in sysctls.items() if value is not None},
            lockdown=lockdown.partition("[")[2].partition("]")[0] or "none",
            mounts=_mount_points(_text(f"{root}/proc/self/mounts") or ""),
            kprobes=os.path.exists(f"{devices}/kprobe"),
            uprobes=os.path.exists(f"{devices}/uprobe"),
            memlock=memlock,
            sysfs=os.path.isdir(f"{root}/sys/kernel"),
        )

    @property
    def version(self) -> tuple[int, int]:
        """Major and minor number of the kernel."""
        return _version(self.release)

    def has(self, capability: str) -> bool:
        """Whether bpf() sees this capability: CAP_SYS_ADMIN implies CAP_BPF and CAP_PERFMON, a namespace none."""
        if self.user_namespace:
            return False
        held = self.capabilities
        return capability in held or (capability != "CAP_NET_ADMIN" and "CAP_SYS_ADMIN" in held)


def grant(environment: Environment) -> str:
    """How the process gets the capabilities bpf() asks for: a way a line."""
    if environment.uid == 0:  # root without them: something took them away
        return "grant them to the container or service (docker run --cap-add BPF --cap-add PERFMON --cap-add NET_ADMIN)"
    names = ",".join(name.lower() for name in WANTED)
    ways = ['sudo "$(command -v bpf2py)" ...', f"systemd, for a service: AmbientCapabilities={' '.join(WANTED)}"]
    # Rights given to a Python that others use are given to all of them.
    if sys.prefix != sys.base_prefix and not os.path.islink(sys.executable):
        ways.append(f"sudo setcap {names}+ep {sys.executable}")
    else:
        ways.append(f"python3 -m venv --copies DIR && sudo setcap {names}+ep DIR/bin/python3")
    return "\n".join(ways)


def explain_eperm(command: str, environment: Environment | None = None) -> str:
    """Say why a command was answered with EPERM and what fixes it, as a clause to put after a colon.

    Args:
        command: such as ``"BPF_PROG_LOAD"`` or ``"perf_event_open"``.
        environment: what to judge by, by default this machine and process.
    """
    if command in _MAP_COMMANDS:
        return "the map does not permit it (BPF_F_RDONLY, BPF_F_WRONLY, BPF_F_RDONLY_PROG, or frozen)"
    if command == "BPF_OBJ_PIN":
        return f"the directory is not in a bpf file system, or not writable; `{MOUNTS['bpf']}` mounts one"
    found = Environment.read() if environment is None else environment
    if found.user_namespace:
        return (
            "the process runs in a user namespace, where bpf() ignores capabilities; run it outside, as root, or with a BPF "
            "token (token_path=, Linux 6.9)"
        )
    needed = _COMMAND_NEEDS.get(command, WANTED)
    missing = [name for name in needed if not found.has(name)]
    sysctl = ""
    disabled = found.sysctls.get("kernel.unprivileged_bpf_disabled")
    paranoid = found.sysctls.get("kernel.perf_event_paranoid")
    if command == "perf_event_open" and paranoid is not None:
        sysctl = f" and kernel.perf_event_paranoid is {paranoid}"
    elif "CAP_BPF" in missing and disabled:
        sysctl = f" and kernel.unprivileged_bpf_disabled is {disabled}"
    if missing == ["CAP_SYS_ADMIN"]:
        return "the process lacks CAP_SYS_ADMIN; run it as root"
    if missing:
        lacks = f"{', '.join(missing[:-1])} and {missing[-1]}" if missing[1:] else missing[0]
        remedy = grant(found) if found.uid == 0 else "run it as root, or see `bpf2py doctor` for other ways"
        return f"the process lacks {lacks}{sysctl}; {remedy}"
    if found.lockdown == "confidentiality":
        return "the kernel is locked down (confidentiality): boot without lockdown=confidentiality"
    if found.seccomp == 2:
        return (
            "the process has the capabilities, but a seccomp filter is active and may refuse bpf(); in a container: "
            "docker run --cap-add BPF --cap-add PERFMON --cap-add NET_ADMIN --security-opt seccomp=unconfined"
        )
    if found.version < MEMLOCK_UNTIL and found.memlock is not None:
        return (
            f"RLIMIT_MEMLOCK is {found.memlock} bytes, and kernels before 5.11 charge maps to it: ulimit -l unlimited"
        )
    return f"the process has {' and '.join(needed)}, so the kernel itself or a security module refuses it"
