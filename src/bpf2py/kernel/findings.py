"""Rows for `bpf2py doctor`: what this machine allows, what is missing, what to do about it."""

from __future__ import annotations

from bpf2py._typing import Literal, NamedTuple
from bpf2py.errors import CompilerNotFound, errno_name
from bpf2py.kernel.environment import MOUNTS, OLDEST, SYSCTLS, WANTED, Environment, explain_eperm, grant
from bpf2py.kernel.memlock import MEMLOCK_UNTIL
from bpf2py.kernel.probes import Probes

__all__ = ["Finding", "find_compiler_row", "findings"]

State = Literal["ok", "note", "missing"]


class Finding(NamedTuple):
    """One row of the doctor's report.

    Attributes:
        name: what was looked at.
        value: what was found.
        state: ``"ok"``; ``"note"``: something works less well; ``"missing"``: something does not work.
        effect: what does not work, or works less well, or an empty string.
        remedy: the command (or the change) that fixes it, or an empty string.
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
            Finding(
                "RLIMIT_MEMLOCK",
                value,
                "note",
                "without CAP_SYS_RESOURCE, which lifts it, larger maps cannot be created",
                "ulimit -l unlimited",
            )
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
            why = explain_eperm(command, found).partition("; ")[0] if code in (1, 13) else "the kernel refuses it"
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
    for name in SYSCTLS:
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
    for kind, command in MOUNTS.items():
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
        return Finding(
            "compiler", "none", "note", f"{effect}: {str(error).partition(': install')[0]}", "pip install 'bpf2py[cc]'"
        )
    return Finding("compiler", f"{compiler.kind} {compiler.version} ({compiler.argv[0]})")
