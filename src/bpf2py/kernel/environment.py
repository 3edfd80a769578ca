"""What this machine allows the process to do with bpf(), read from /proc and /sys and asked of the kernel.

`Environment.read()` only reads files; `Probes.run()` asks the kernel with three harmless bpf() calls. `findings()`
turns both into rows for `bpf2py doctor`, `explain_eperm()` turns the first into the reason a PermissionDenied names.

Sources of the facts: capabilities(7), Documentation/admin-guide/sysctl/{kernel,net}.rst, Documentation/admin-guide/
perf-security.rst, kernel/bpf/syscall.c (which capability each command asks for; CAP_BPF and CAP_PERFMON exist since 5.8
and CAP_SYS_ADMIN stands for both).
"""

from __future__ import annotations

import os
import struct
import sys
from typing import Literal, NamedTuple

from bpf2py.errors import CompilerNotFound, NotSupported, errno_name
from bpf2py.uapi.commands import Command
from bpf2py.uapi.map_types import MapType
from bpf2py.uapi.program_types import AttachType, ProgramType

OLDEST = (5, 10)
MEMLOCK_UNTIL = (5, 11)  # from 5.11 on, memory of BPF objects is charged to the cgroup instead of RLIMIT_MEMLOCK

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
_SYSCTLS = {
    "kernel.unprivileged_bpf_disabled": "kernel/unprivileged_bpf_disabled",
    "net.core.bpf_jit_enable": "net/core/bpf_jit_enable",
    "kernel.perf_event_paranoid": "kernel/perf_event_paranoid",
    "kernel.kptr_restrict": "kernel/kptr_restrict",
}
_MOUNTS = {
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
        sysctls = {name: _number(f"{root}/proc/sys/{path}") for name, path in _SYSCTLS.items()}
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


class Probes(NamedTuple):
    """What the kernel answered when asked; errno 0 is success.

    Attributes:
        map_create: errno of creating an array map.
        prog_load: errno of loading a two-instruction tracepoint program.
        trampolines: whether fentry, fexit, fmod_ret and LSM programs are accepted; None when programs are not.
    """

    map_create: int
    prog_load: int
    trampolines: bool | None

    @classmethod
    def run(cls) -> Probes:
        """Create a map and load a program (both closed at once)."""
        from bpf2py.kernel.syscall import EPERM

        map_create = _attempt(Command.MAP_CREATE, struct.pack("<4I", MapType.ARRAY, 4, 4, 1))
        prog_load = _load(ProgramType.TRACEPOINT, 0)
        if prog_load:
            return cls(map_create, prog_load, None)
        # Without a target the verifier says EINVAL where trampolines are possible; where the kernel refuses them all it
        # says EPERM before it even looks.
        fentry = _load(ProgramType.TRACING, AttachType.TRACE_FENTRY)
        return cls(map_create, prog_load, fentry != EPERM)

    @property
    def kernel_usable(self) -> bool:
        """Whether the kernel backend can be used."""
        return self.map_create == 0 and self.prog_load == 0


def _attempt(command: Command, attr: bytes) -> int:
    """Run a bpf() command that returns a descriptor, close it, and return the errno (0: it worked)."""
    from bpf2py.kernel.syscall import ENOSYS, bpf

    try:
        fd = bpf(command, attr)
    except NotSupported:  # no Linux, or a CPU without a bpf() number
        return ENOSYS
    if fd < 0:
        return -fd
    os.close(fd)
    return 0


def _load(program_type: ProgramType, expected_attach_type: int) -> int:
    """Load ``r0 = 0; exit`` as a program type and return the errno."""
    from bpf2py.kernel.syscall import address_of_bytes

    code, gpl = bytes.fromhex("b7000000000000009500000000000000"), b"GPL\0"
    # union bpf_attr for BPF_PROG_LOAD: prog_type, insn_cnt, insns, license, ..., expected_attach_type at byte 68.
    attr = struct.pack(
        "<IIQQ44xI", program_type, 2, address_of_bytes(code), address_of_bytes(gpl), expected_attach_type
    )
    return _attempt(Command.PROG_LOAD, attr)


def grant(environment: Environment) -> str:
    """How the process gets the capabilities bpf() asks for."""
    if environment.uid == 0:  # root without them: something took them away
        return "grant them to the container or service (docker run --cap-add BPF --cap-add PERFMON --cap-add NET_ADMIN)"
    names = ",".join(name.lower() for name in WANTED)
    advice = 'run as root (sudo "$(command -v bpf2py)" ...), or let a service have them (systemd: AmbientCapabilities='
    advice += f"{' '.join(WANTED)})"
    # Rights given to a Python that others use are given to all of them.
    if sys.prefix != sys.base_prefix and not os.path.islink(sys.executable):
        return f"{advice}, or: sudo setcap {names}+ep {sys.executable}"
    return f"{advice}, or a Python of your own: python3 -m venv --copies DIR && sudo setcap {names}+ep DIR/bin/python3"


def explain_eperm(command: str, environment: Environment | None = None) -> str:
    """Say why a command was answered with EPERM and what mends it, as a clause to put after a colon.

    Args:
        command: such as ``"BPF_PROG_LOAD"`` or ``"perf_event_open"``.
        environment: what to judge by, by default this machine and process.
    """
    if command in _MAP_COMMANDS:
        return "the map does not permit it (BPF_F_RDONLY, BPF_F_WRONLY, BPF_F_RDONLY_PROG, or frozen)"
    if command == "BPF_OBJ_PIN":
        return f"the directory is not in a bpf file system, or not writable; `{_MOUNTS['bpf']}` mounts one"
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
        return f"the process lacks {' and '.join(missing)}{sysctl}; {grant(found)}"
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


State = Literal["ok", "note", "missing"]


class Finding(NamedTuple):
    """One row of the doctor's report.

    Attributes:
        name: what was looked at.
        value: what was found.
        state: ``"ok"``; ``"note"``: something works less well; ``"missing"``: something does not work.
        effect: what does not work, or works less well, or an empty string.
        remedy: the command (or the change) that mends it, or an empty string.
    """

    name: str
    value: str
    state: State = "ok"
    effect: str = ""
    remedy: str = ""


def findings(environment: Environment, probes: Probes) -> list[Finding]:
    """Judge an environment, row by row, most basic first."""
    rows = [_judge_kernel(environment), _judge_bpf(environment, probes)]
    rows += _judge_rights(environment, probes)
    rows += _judge_sysctls(environment)
    rows += _judge_mounts(environment)
    rows += _judge_hooks(environment, probes)
    if environment.version < MEMLOCK_UNTIL:
        limit = environment.memlock
        value = "unlimited" if limit is None else f"{limit} bytes"
        low = limit is not None and limit < 1 << 26
        rows.append(
            Finding("RLIMIT_MEMLOCK", value, "note", "larger maps cannot be created", "ulimit -l unlimited")
            if low
            else Finding("RLIMIT_MEMLOCK", value)
        )
    return rows


def _judge_kernel(found: Environment) -> Finding:
    if found.version < OLDEST:
        effect = f"bpf2py is made for Linux {OLDEST[0]}.{OLDEST[1]} and newer"
        return Finding("kernel", found.release, "missing", effect, "upgrade the kernel")
    return Finding("kernel", found.release)


def _judge_bpf(found: Environment, probes: Probes) -> Finding:
    for command, code in (("BPF_MAP_CREATE", probes.map_create), ("BPF_PROG_LOAD", probes.prog_load)):
        if code:
            why = explain_eperm(command, found) if code in (1, 13) else "the kernel refuses it"
            if code == 38:  # ENOSYS
                why = "a seccomp filter refuses the system call, or the kernel was built without CONFIG_BPF_SYSCALL"
                return Finding("bpf()", "not there", "missing", why, "docker run --security-opt seccomp=unconfined")
            return Finding("bpf()", f"{command}: {errno_name(code)}", "missing", why, grant(found))
    return Finding("bpf()", "maps and programs can be loaded")


def _judge_rights(found: Environment, probes: Probes) -> list[Finding]:
    missing = [name for name in WANTED if not found.has(name)]
    held = ", ".join(name for name in (*WANTED, "CAP_SYS_ADMIN") if name in found.capabilities) or "none that matter"
    rows = [Finding("capabilities", held)]
    if missing:
        effect = f"without {', '.join(missing)}"
        rows = [Finding("capabilities", held, "missing", effect, grant(found))]
    if found.user_namespace:
        effect = "bpf() ignores capabilities held there"
        rows.append(Finding("user namespace", "own", "missing", effect, "run outside of the user namespace"))
    if found.lockdown == "confidentiality":
        effect = "programs cannot read kernel memory; no kprobes, no tracefs"
        remedy = "boot without lockdown=confidentiality"
        rows.append(Finding("lockdown", found.lockdown, "missing", effect, remedy))
    else:
        rows.append(Finding("lockdown", found.lockdown))
    seccomp = {None: "not in this kernel", 0: "off", 1: "strict", 2: "filter"}.get(found.seccomp, str(found.seccomp))
    if found.seccomp == 2 and not probes.kernel_usable:
        effect = "the filter may refuse bpf() and perf_event_open()"
        rows.append(Finding("seccomp", seccomp, "note", effect, "docker run --security-opt seccomp=unconfined"))
    else:
        rows.append(Finding("seccomp", seccomp))
    return rows


def _judge_sysctls(found: Environment) -> list[Finding]:
    rows = []
    for name in _SYSCTLS:
        value = found.sysctls.get(name)
        if value is None:
            rows.append(Finding(name, "not in this kernel"))
        elif name == "net.core.bpf_jit_enable" and value == 0:
            rows.append(Finding(name, "0", "note", "programs are interpreted, slowly", f"sysctl -w {name}=1"))
        elif name == "kernel.perf_event_paranoid" and value > 1 and not found.has("CAP_PERFMON"):
            effect = "no perf events and probes without CAP_PERFMON"
            rows.append(Finding(name, str(value), "note", effect, f"sysctl -w {name}=1"))
        elif name == "kernel.unprivileged_bpf_disabled" and value and not found.has("CAP_BPF"):
            rows.append(Finding(name, str(value), "note", "bpf() needs CAP_BPF"))
        elif name == "kernel.kptr_restrict" and value == 2:
            effect = "no addresses in /proc/kallsyms: kernel stacks have no names"
            rows.append(Finding(name, "2", "note", effect, f"sysctl -w {name}=1"))
        else:
            rows.append(Finding(name, str(value)))
    return rows


def _judge_mounts(found: Environment) -> list[Finding]:
    effects = {
        "tracefs": "tracepoints cannot be attached by name",
        "bpf": "maps, programs and links cannot be pinned",
        "cgroup2": "cgroup programs cannot be attached",
    }
    rows = []
    for kind, command in _MOUNTS.items():
        name = "bpffs" if kind == "bpf" else kind
        if kind in found.mounts:
            rows.append(Finding(name, found.mounts[kind]))
        elif kind == "tracefs" and found.has("CAP_SYS_ADMIN"):
            rows.append(Finding(name, "not mounted; bpf2py mounts it for itself"))
        else:
            rows.append(Finding(name, "not mounted", "note", effects[kind], command))
    return rows


def _judge_hooks(found: Environment, probes: Probes) -> list[Finding]:
    rows = []
    if not found.sysfs:
        effect = "the kernel's types, probes and possible CPUs are not known: no CO-RE, fentry, kprobes, uprobes, per-CPU maps"
        return [Finding("sysfs", "not mounted", "missing", effect, "mount -t sysfs sysfs /sys")]
    if found.btf:
        rows.append(Finding("BTF of the kernel", "/sys/kernel/btf/vmlinux"))
    else:
        effect = "no CO-RE, fentry, tp_btf, iterators or LSM"
        remedy = "use a kernel built with CONFIG_DEBUG_INFO_BTF=y"
        rows.append(Finding("BTF of the kernel", "not there", "note", effect, remedy))
    for name, there, option in (
        ("kprobes", found.kprobes, "CONFIG_KPROBE_EVENTS"),
        ("uprobes", found.uprobes, "CONFIG_UPROBE_EVENTS"),
    ):
        if there:
            rows.append(Finding(name, "available"))
        else:
            effect = f"the kernel was built without {option}"
            rows.append(Finding(name, "not available", "note", effect, f"use a kernel built with {option}=y"))
    if probes.trampolines:
        rows.append(Finding("trampolines", "permitted"))
    elif probes.trampolines is False:
        effect = "the kernel refuses fentry, fexit, fmod_ret, LSM and freplace, whatever the capabilities"
        rows.append(Finding("trampolines", "refused", "note", effect, "use raw tracepoints (tp_btf) or tracepoints"))
    return rows


def find_compiler_row() -> Finding:
    """The compiler `bpf2py.compile` would use; starts it to learn its version."""
    from bpf2py.toolchain.find import find_compiler

    try:
        compiler = find_compiler()
    except CompilerNotFound as error:
        effect = "C sources cannot be compiled; objects (.o) can be loaded"
        return Finding("compiler", "none", "note", f"{effect}: {error}", "pip install 'bpf2py[cc]'")
    return Finding("compiler", f"{compiler.kind} {compiler.version} ({compiler.argv[0]})")
