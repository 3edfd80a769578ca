"""Containers: from the names runtimes give control groups, to the field and the filter of every tool."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpf2py.errors import BpfError
from bpf2py.kernel.cgroups import mount_point
from bpf2py.tools.containers import Containers, find_container, parse

ID = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4
UID = "11f3dd36-5b7a-4d3f-9a3c-0a1b2c3d4e5f"
SLICE = f"kubepods-burstable-pod{UID.replace('-', '_')}.slice"


@pytest.mark.parametrize(
    ("path", "runtime", "shown", "pod"),
    [
        (f"/system.slice/docker-{ID}.scope", "docker", ID[:12], ""),
        (f"/docker/{ID}", "docker", ID[:12], ""),
        (f"/docker/{ID}/init.scope/system.slice/nginx.service", "docker", ID[:12], ""),
        (f"/kubepods.slice/kubepods-burstable.slice/{SLICE}/cri-containerd-{ID}.scope", "containerd", ID[:12], UID),
        (f"/kubepods.slice/{SLICE}/crio-{ID}.scope", "cri-o", ID[:12], UID),
        (f"/kubepods/besteffort/pod{UID}/{ID}", "containerd", ID[:12], UID),
        (f"/kubepods.slice/kubepods-burstable.slice/{SLICE}", "pod", f"pod {UID}", UID),
        (f"/machine.slice/libpod-{ID}.scope/container", "podman", ID[:12], ""),
        (f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope", "podman", ID[:12], ""),
        (f"/system.slice/nerdctl-{ID}.scope", "containerd", ID[:12], ""),
        ("/lxc.payload.web-1/system.slice", "lxc", "web-1", ""),
        ("/lxc/web-1", "lxc", "web-1", ""),
        ("/machine.slice/systemd-nspawn@deb\\x2d12.service/payload", "nspawn", "deb-12", ""),
        ("/machine.slice/machine-deb\\x2d12.scope", "nspawn", "deb-12", ""),
        ("/system.slice/ssh.service", "systemd", "ssh.service", ""),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/app.service", "systemd", "app.service", ""),
        ("/user.slice/user-1000.slice/session-3.scope", "systemd", "session-3.scope", ""),
    ],
)
def test_names_of_control_groups(path: str, runtime: str, shown: str, pod: str) -> None:
    found = parse(path)
    assert found is not None
    assert (found.runtime, found.shown, found.pod) == (runtime, shown, pod)
    assert path.startswith(found.path)


@pytest.mark.parametrize(
    "path", ["/", "/build", f"/machine.slice/libpod-conmon-{ID}", f"/docker-{ID[:20]}", "/a/b.slice"]
)
def test_groups_that_are_no_containers(path: str) -> None:
    assert parse(path) is None


def test_names_that_runtimes_keep(tmp_path: Path) -> None:
    """Files that are damaged, or of another form than expected, name nothing."""
    groups, files = tmp_path / "groups", tmp_path / "files"
    names = {
        f"docker-{ID}.scope": ("var/lib/docker/containers/{}/config.v2.json", {"Name": "/web"}, "web"),
        f"cri-containerd-{OTHER}.scope": (
            "run/containerd/io.containerd.runtime.v2.task/k8s.io/{}/config.json",
            {"annotations": {"io.kubernetes.cri.sandbox-name": "shop-7", "io.kubernetes.cri.container-name": "api"}},
            "shop-7/api",
        ),
        f"docker-{'ab' * 32}.scope": ("var/lib/docker/containers/{}/config.v2.json", [1], "ab" * 6),
        f"docker-{'cd' * 32}.scope": ("var/lib/docker/containers/{}/config.v2.json", {"Name": 5}, "cd" * 6),
    }
    expected = {}
    for group, (path, content, name) in names.items():
        (groups / group).mkdir(parents=True)
        ident = group.removesuffix(".scope").rpartition("-")[2]
        file = files / path.format(ident)
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(content))
        expected[(groups / group).stat().st_ino] = name
    (files / "var/lib/docker/containers" / ("cd" * 32) / "config.v2.json").write_text("{")
    podman = groups / f"libpod-{'ef' * 32}.scope"
    podman.mkdir()
    listed = files / "var/lib/containers/storage/overlay-containers/containers.json"
    listed.parent.mkdir(parents=True)
    listed.write_text(json.dumps([{"id": "ef" * 32, "names": ["db"]}, {"id": "x"}, 7]))
    expected[podman.stat().st_ino] = "db"
    found = Containers(str(groups), str(files))
    assert {number: found.shown(number) for number in expected} == expected
    assert found.shown(1) is None
    for wanted, group in (
        ("web", f"docker-{ID}.scope"),
        ("api", f"cri-containerd-{OTHER}.scope"),
        ("efef", podman.name),
    ):
        assert find_container(wanted, str(groups), str(files)) == str(groups / group)
    with pytest.raises(BpfError, match=r"there is none; those in control groups .* are: .*web"):
        find_container("nonsense", str(groups), str(files))
    (groups / f"docker-{'efef' + ID[4:]}.scope").mkdir()
    with pytest.raises(BpfError, match="there are several"):
        find_container("efef", str(groups), str(files))


def test_a_group_that_is_made_later_is_found(tmp_path: Path) -> None:
    found = Containers(str(tmp_path))
    later = tmp_path / "later.service"
    later.mkdir()
    assert found.shown(later.stat().st_ino) == "later.service"
    number = later.stat().st_ino
    later.rmdir()
    assert found.shown(number) == "later.service"


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group as docker names it."""
    ident = os.urandom(32).hex()
    root = mount_point()
    assert root is not None
    path = Path(root) / f"docker-{ident}.scope"
    (path / "inner").mkdir(parents=True)
    yield path
    (path / "inner").rmdir()
    path.rmdir()


@pytest.mark.kernel
@pytest.mark.parametrize("name", ["execsnoop", "cpudist --process", "syscount --process"])
def test_records_name_the_container_and_are_filtered_by_it(group: Path, name: str) -> None:
    """What runs in the control group, and below it; others do the same and are not shown."""
    short = group.name[7:19]
    words = [sys.executable, "-m", "bpf2py", "tool", *name.split(), "--containers", "--json", "--container", short]
    inside = f"echo $$ > {group}/inner/cgroup.procs; /bin/true; cat /dev/null; sleep 0.01"
    done = subprocess.run(
        [*words, "--", "sh", "-c", f"/bin/true; sleep 0.01; sh -c '{inside}'"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert records, done.stderr
    assert {record["container"] for record in records} == {short}
    assert {"sh", "sleep"} & {record["comm"] for record in records}
    everywhere = subprocess.run(
        [sys.executable, "-m", "bpf2py", "tool", *name.split(), "--containers", "--", "sh", "-c", inside],
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    assert short in everywhere


@pytest.mark.kernel
@pytest.mark.parametrize("histogram", [False, True])
def test_argdist_counts_for_each_container(group: Path, histogram: bool) -> None:
    short = group.name[7:19]
    words = [
        sys.executable,
        "-m",
        "bpf2py",
        "tool",
        "argdist",
        "libc:getenv",
        "--value",
        "arg1 != 0",
        "--containers",
        "--json",
    ]
    inside = f"echo $$ > {group}/inner/cgroup.procs; exec bash -c true"
    done = subprocess.run(
        [*words, *(["--histogram"] if histogram else []), "--", "bash", "-c", f"bash -c true; sh -c '{inside}'"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert short in {row["container"] for row in rows}, done.stderr
    assert len(rows) == 2
    assert all(row["count"] > 0 for row in rows)


@pytest.mark.kernel
def test_memleak_names_the_container(group: Path) -> None:
    short = group.name[7:19]
    words = [sys.executable, "-m", "bpf2py", "tool", "memleak", "--containers", "--container", short]
    inside = f"echo $$ > {group}/inner/cgroup.procs; exec bash -c true"
    for option in ("--json", "--top=3"):
        done = subprocess.run([*words, option, "--", "sh", "-c", inside], capture_output=True, text=True, timeout=60)
        assert short in done.stdout, done.stderr
        if option == "--json":
            rows = [
                row for line in done.stdout.splitlines() if "pid" in (row := json.loads(line))
            ]  # the rest are warnings
            assert {row["container"] for row in rows} == {short}


@pytest.mark.kernel
def test_wrong_containers() -> None:
    for words, reason in (
        (["--container", "nonsense"], "there is none"),
        (["--container", "a", "--cgroup", "/"], "give one of them"),
    ):
        argv = [sys.executable, "-m", "bpf2py", "tool", "execsnoop", *words]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        assert reason in done.stderr
