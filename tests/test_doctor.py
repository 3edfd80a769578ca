from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from bpf2py.cli.doctor import engine_row
from bpf2py.kernel.environment import CAPABILITIES, Environment, explain_eperm
from bpf2py.kernel.findings import Finding, find_compiler_row, findings
from bpf2py.kernel.probes import Probes

USABLE = Probes(0, 0, True)
REFUSED = Probes(errno.EPERM, errno.EPERM, None)
LeakCheck = Callable[[], AbstractContextManager[None]]


def mask(*names: str) -> str:
    return f"{sum(1 << CAPABILITIES.index(name) for name in names):016x}"


def machine(root: Path, capabilities: str = mask("CAP_SYS_ADMIN", "CAP_NET_ADMIN"), **files: str) -> Environment:
    """The environment read from a file tree of a healthy 6.12 machine with the given differences."""
    content = {
        "proc/sys/kernel/osrelease": "6.12.9-test\n",
        "proc/sys/kernel/unprivileged_bpf_disabled": "2\n",
        "proc/sys/kernel/perf_event_paranoid": "2\n",
        "proc/sys/kernel/kptr_restrict": "0\n",
        "proc/sys/net/core/bpf_jit_enable": "1\n",
        "proc/self/status": f"Name:\tpython\nUid:\t0\t1000\t0\t0\nCapEff:\t{capabilities}\nSeccomp:\t0\n",
        "proc/self/uid_map": "         0          0 4294967295\n",
        "proc/self/limits": "Limit  Soft Limit  Hard Limit  Units\nMax locked memory  65536  65536  bytes\n",
        "proc/self/mounts": "t /sys/kernel/tracing tracefs rw\nb /sys/fs/bpf bpf rw\nc /sys/fs/cgroup cgroup2 rw\n",
        "sys/kernel/btf/vmlinux": "",
        "sys/kernel/security/lockdown": "[none] integrity confidentiality\n",
        "sys/bus/event_source/devices/kprobe": "",
        "sys/bus/event_source/devices/uprobe": "",
    }
    content.update(files)
    for name, text in content.items():
        if text != "absent":
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
    return Environment.read(str(root))


def row(rows: list[Finding], name: str) -> Finding:
    (found,) = (each for each in rows if each.name == name)
    return found


def test_healthy_machine_has_only_good_findings(tmp_path: Path) -> None:
    assert [each for each in findings(machine(tmp_path), USABLE) if each.state != "ok"] == []


@pytest.mark.parametrize(
    ("file", "text", "name", "state", "remedy"),
    [
        ("proc/sys/kernel/osrelease", "5.4.0-generic", "kernel", "missing", "upgrade"),
        ("proc/sys/kernel/osrelease", "5.10.0-8-amd64", "RLIMIT_MEMLOCK", "note", "ulimit -l unlimited"),
        ("proc/sys/net/core/bpf_jit_enable", "0", "net.core.bpf_jit_enable", "note", "net.core.bpf_jit_enable=1"),
        ("proc/sys/kernel/kptr_restrict", "2", "kernel.kptr_restrict", "note", "kernel.kptr_restrict=1"),
        ("proc/self/uid_map", "0 1000 1", "user namespace", "missing", "outside"),
        ("sys/kernel/security/lockdown", "none integrity [confidentiality]", "lockdown", "missing", "lockdown="),
        ("sys/kernel/btf/vmlinux", "absent", "BTF of the kernel", "note", "CONFIG_DEBUG_INFO_BTF"),
        ("sys/bus/event_source/devices/kprobe", "absent", "kprobes", "note", "CONFIG_KPROBE_EVENTS"),
        ("proc/self/mounts", "x / ext4 rw 0 0", "bpffs", "note", "mount -t bpf"),
        ("proc/self/mounts", "x / ext4 rw 0 0", "cgroup2", "note", "mount -t cgroup2"),
    ],
)
def test_each_fault_is_found_with_its_remedy(
    tmp_path: Path, file: str, text: str, name: str, state: str, remedy: str
) -> None:
    found = row(findings(machine(tmp_path, **{file: text}), USABLE), name)
    assert found.state == state
    assert found.effect
    assert remedy in found.remedy


def test_memlock_is_not_mentioned_where_the_kernel_ignores_it(tmp_path: Path) -> None:
    assert all("MEMLOCK" not in each.name for each in findings(machine(tmp_path), USABLE))
    assert "MEMLOCK" not in explain_eperm("BPF_MAP_CREATE", machine(tmp_path))


def test_bpf_refused_for_lack_of_rights(tmp_path: Path) -> None:
    rows = findings(machine(tmp_path, mask("CAP_KILL")), REFUSED)
    assert row(rows, "bpf()").state == "missing"
    assert "CAP_BPF" in row(rows, "bpf()").effect
    remedy = row(rows, "capabilities").remedy
    assert 'sudo "$(command -v bpf2py)"' in remedy
    assert "AmbientCapabilities=CAP_BPF CAP_PERFMON CAP_NET_ADMIN" in remedy


@pytest.mark.parametrize("link", [True, False])
@pytest.mark.parametrize("venv", [True, False])
def test_rights_are_not_given_to_a_python_that_others_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: bool, venv: bool
) -> None:
    python = tmp_path / "python3"
    if link:
        python.symlink_to(sys.executable)
    else:
        python.write_text("")
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(sys, "prefix", str(tmp_path) if venv else sys.base_prefix)
    remedy = row(findings(machine(tmp_path, mask("CAP_KILL")), REFUSED), "capabilities").remedy
    if venv and not link:  # python3 -m venv --copies
        assert f"setcap cap_bpf,cap_perfmon,cap_net_admin+ep {python}" in remedy
    else:
        assert (
            "python3 -m venv --copies DIR && sudo setcap cap_bpf,cap_perfmon,cap_net_admin+ep DIR/bin/python3" in remedy
        )
        assert sys.executable not in remedy
        assert os.path.realpath(sys.executable) not in remedy


def test_tracefs_is_missed_only_by_those_who_cannot_mount_it(tmp_path: Path) -> None:
    mounts = {"proc/self/mounts": "x / ext4 rw 0 0"}
    assert row(findings(machine(tmp_path, **mounts), USABLE), "tracefs").state == "ok"
    limited = row(findings(machine(tmp_path, mask("CAP_BPF", "CAP_PERFMON"), **mounts), USABLE), "tracefs")
    assert limited.state == "note"
    assert limited.remedy.startswith("mount -t tracefs")


def test_refused_trampolines_are_a_note(tmp_path: Path) -> None:
    assert row(findings(machine(tmp_path), Probes(0, 0, False)), "trampolines").state == "note"


@pytest.mark.parametrize(
    ("command", "held", "missing"),
    [
        ("BPF_MAP_CREATE", (), ["CAP_BPF"]),
        ("BPF_PROG_LOAD", ("CAP_BPF",), ["CAP_PERFMON", "CAP_NET_ADMIN"]),
        ("BPF_PROG_LOAD", ("CAP_SYS_ADMIN",), ["CAP_NET_ADMIN"]),
        ("BPF_LINK_CREATE", ("CAP_BPF", "CAP_PERFMON"), ["CAP_NET_ADMIN"]),
        ("BPF_MAP_GET_FD_BY_ID", ("CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"), ["CAP_SYS_ADMIN"]),
        ("perf_event_open", (), ["CAP_PERFMON"]),
    ],
)
def test_eperm_names_the_missing_capabilities(
    tmp_path: Path, command: str, held: tuple[str, ...], missing: list[str]
) -> None:
    text = explain_eperm(command, machine(tmp_path, mask(*held)))
    lacks = text.partition("lacks ")[2].partition(";")[0].partition(" and kernel.")[0]
    assert lacks.replace(" and ", ", ").split(", ") == missing


def test_eperm_names_sysctl_namespace_lockdown_seccomp_and_the_map(tmp_path: Path) -> None:
    def explain(number: int, command: str = "BPF_MAP_CREATE", capabilities: str = "", **files: str) -> str:
        return explain_eperm(command, machine(tmp_path / str(number), capabilities or mask("CAP_SYS_ADMIN"), **files))

    assert "kernel.unprivileged_bpf_disabled is 2" in explain(0, capabilities=mask("CAP_KILL"))
    assert "perf_event_paranoid is 2" in explain(1, "perf_event_open", mask("CAP_KILL"))
    assert "user namespace" in explain(2, **{"proc/self/uid_map": "0 1000 1"})
    assert "lockdown=confidentiality" in explain(3, **{"sys/kernel/security/lockdown": "none [confidentiality]"})
    assert "seccomp" in explain(4, **{"proc/self/status": f"CapEff: {mask('CAP_SYS_ADMIN')}\nSeccomp: 2\n"})
    assert "RLIMIT_MEMLOCK is 65536" in explain(5, **{"proc/sys/kernel/osrelease": "5.10.1"})
    assert "frozen" in explain(6, "BPF_MAP_UPDATE_ELEM")
    assert "bpf file system" in explain(7, "BPF_OBJ_PIN")
    assert "kernel itself" in explain(8)


def test_root_without_capabilities_is_not_told_to_become_root(tmp_path: Path) -> None:
    status = "Uid:\t0\t0\t0\t0\nCapEff:\t0\nSeccomp:\t0\n"
    text = explain_eperm("BPF_MAP_CREATE", machine(tmp_path, **{"proc/self/status": status}))
    assert "--cap-add BPF" in text
    assert "root" not in text


def test_nothing_readable_is_no_error(tmp_path: Path) -> None:
    empty = Environment.read(str(tmp_path))
    assert empty.version == (0, 0)
    assert row(findings(empty, REFUSED), "kernel").state == "missing"


def test_compiler_found_or_how_to_install_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_compiler_row().state == "ok"
    monkeypatch.setenv("BPF2PY_CC", "/no/such/compiler")
    missing = find_compiler_row()
    assert missing.state == "note"
    assert "bpf2py[cc]" in missing.remedy


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, "-m", "bpf2py", *arguments], capture_output=True, text=True, check=False, env=environment
    )


def test_json_report_and_exit_status_agree() -> None:
    done = run("doctor", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == (0 if report["kernel_usable"] else 1)
    assert report["backend"] in (("kernel",) if report["kernel_usable"] else ("engine", None))
    assert {"name", "value", "state", "effect", "remedy"} == set(report["findings"][0])
    assert done.stderr == ""


def test_report_for_people_has_no_colours_in_a_pipe() -> None:
    done = run("doctor")
    assert os.uname().release in done.stdout
    assert "\x1b" not in done.stdout


def test_wrong_usage_and_version() -> None:
    assert run("--version").stdout.startswith("bpf2py ")
    wrong = run("no-such-command")
    assert wrong.returncode == 2
    assert "no-such-command" in wrong.stderr
    assert "Traceback" not in wrong.stderr


@pytest.mark.kernel
def test_real_probes_find_the_kernel_usable(assert_no_leaks: LeakCheck) -> None:
    with assert_no_leaks():
        probes = Probes.run()
    assert probes.kernel_usable


@pytest.mark.kprobe
def test_trampolines_are_permitted_where_kprobes_are() -> None:
    environment = Environment.read()
    assert environment.kprobes
    assert environment.btf
    assert Probes.run().trampolines is True


@pytest.mark.kernel
def test_probes_without_rights() -> None:
    """In a child that dropped its capabilities (as a plain user has none), the doctor says so and exits with 1."""
    code = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3
assert libc.capset(header, (ctypes.c_uint32 * 6)()) == 0
from bpf2py.cli import main
main(["doctor"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "BPF_MAP_CREATE: EPERM" in done.stdout
    assert "cannot load programs" in done.stdout


def test_why_the_engine_runs_python_code(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine_row() == Finding("engine", "machine code")
    monkeypatch.setattr("bpf2py.cli.doctor.can_run", lambda: False)
    assert engine_row().state == "note"
    assert "no memory may be made executable" in engine_row().effect
    monkeypatch.setattr("bpf2py.cli.doctor.processor", lambda: None)
    assert "on x86-64 and aarch64" in engine_row().effect
