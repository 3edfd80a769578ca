"""Programs, links, maps, devices, control groups and BTF of the machine: what the commands say is what bpftool says."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.command_line import run

import bpf2py
from bpf2py.cli.completion import complete_link, complete_map, complete_program, complete_section
from bpf2py.cli.tool import NAMES

pytestmark = pytest.mark.kernel

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct counter { __u32 pid; __u64 count; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, __u32); __type(value, struct counter); }
    obj_counts SEC(".maps");
__u64 runs;
SEC("xdp") int obj_xdp(struct xdp_md *ctx) { return XDP_PASS; }
SEC("tc") int obj_tc(struct __sk_buff *skb) { return -1; }
SEC("cgroup_skb/egress") int obj_cgroup(struct __sk_buff *skb) { return 1; }
SEC("tracepoint/syscalls/sys_enter_getpgid") int obj_asked(void *ctx)
{
    __u32 key = 1;
    struct counter value = {.pid = 2};
    runs++;
    return bpf_map_update_elem(&obj_counts, &key, &value, BPF_ANY);
}
char LICENSE[] SEC("license") = "GPL";
"""


def bpf2py_json(*arguments: str) -> Any:
    done = run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def bpftool(*arguments: str) -> Any:
    tool = shutil.which("bpftool", path=f"{os.environ['PATH']}:/usr/sbin")
    if tool is None:
        pytest.skip("there is no bpftool")
    return json.loads(subprocess.run([tool, "-j", *arguments], capture_output=True, text=True, check=True).stdout)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("objects") / "objects.bpf.c"
    path.write_text(SOURCE)
    return str(path)


@pytest.fixture
def obj(source: str) -> Iterator[Any]:
    with bpf2py.load(source, "kernel") as loaded:
        yield loaded


def row(rows: list[dict[str, Any]], ident: int) -> dict[str, Any]:
    return next(each for each in rows if each["id"] == ident)


def test_programs_are_those_bpftool_lists(obj: Any, bpffs: Path) -> None:
    program = obj.programs["obj_xdp"]
    program.pin(bpffs / "pinned")
    ours = row(bpf2py_json("prog", "list", "--long"), program.info.id)
    theirs = row(bpftool("prog", "list"), program.info.id)
    assert ours["type"].lower() == theirs["type"]
    assert ours["instructions"] * 8 == theirs["bytes_xlated"]
    loaded = datetime.datetime.strptime(ours["loaded_at"], "%Y-%m-%d %H:%M:%S")
    assert abs(loaded.timestamp() - theirs["loaded_at"]) <= 1
    assert ours["maps"] == theirs.get("map_ids", [])
    for same in ("name", "tag", "uid", "btf_id"):
        assert ours[same] == theirs[same]
    assert {"pid": os.getpid(), "comm": Path("/proc/self/comm").read_text().strip()} in ours["pids"]
    assert ours["pinned"] == [str(bpffs / "pinned")]
    assert bpf2py_json("prog", "show", str(bpffs / "pinned"))["id"] == program.info.id
    text = run("prog", "list", "--long").stdout
    assert f"({os.getpid()})" in text
    assert str(bpffs / "pinned") in text


def test_maps_and_links_are_those_bpftool_lists(obj: Any, bpffs: Path) -> None:
    bpf_map = obj.maps["obj_counts"]
    link = obj.programs["obj_xdp"].attach(device="lo", mode="generic")
    link.pin(bpffs / "link")
    bpf_map.pin(bpffs / "map")
    ours, theirs = row(bpf2py_json("map", "list", "--long"), bpf_map.id), row(bpftool("map", "list"), bpf_map.id)
    assert (ours["type"].lower(), ours["key_size"], ours["value_size"]) == (
        theirs["type"],
        theirs["bytes_key"],
        theirs["bytes_value"],
    )
    for same in ("name", "max_entries", "flags"):
        assert ours.get(same, 0) == theirs.get(same, 0)
    assert ours["pinned"] == [str(bpffs / "map")]
    assert os.getpid() in [owner["pid"] for owner in ours["pids"]]
    ident = link.info["id"]
    ours, theirs = row(bpf2py_json("link", "list", "--long"), ident), row(bpftool("link", "list"), ident)
    assert (ours["type"], ours["program"]) == (theirs["type"], theirs["prog_id"])
    assert ours["pinned"] == [str(bpffs / "link")]
    assert bpf2py_json("link", "show", str(ident))["details"]["ifindex"] == 1
    assert run("link", "detach", str(ident)).returncode == 0
    assert bpf2py_json("link", "show", str(ident))["details"]["ifindex"] == 0


def test_devices_and_control_groups(obj: Any) -> None:
    obj.programs["obj_xdp"].attach(device="lo", mode="generic")
    obj.programs["obj_tc"].attach(device="lo", direction="egress", qdisc="clsact")
    found = {(item["hook"], item["program"]): item for item in bpf2py_json("net")}
    (theirs,) = bpftool("net")
    xdp, tc = obj.programs["obj_xdp"].info.id, obj.programs["obj_tc"].info.id
    assert [(x["devname"], x["mode"]) for x in theirs["xdp"] if x["id"] == xdp] == [("lo", "generic")]
    assert found["xdp/generic", xdp]["device"] == "lo"
    assert [(x["devname"], x["kind"]) for x in theirs["tc"] if x["id"] == tc] == [("lo", "clsact/egress")]
    assert found["clsact/egress", tc]["name"] == "obj_tc"
    from bpf2py.kernel.cgroups import mount_point

    group = Path(mount_point() or "") / f"bpf2py-{os.getpid()}"
    group.mkdir()
    try:
        with obj.programs["obj_cgroup"].attach(cgroup=str(group)):
            ours = bpf2py_json("cgroup", "list", group.name)
            theirs = bpftool("cgroup", "show", str(group))
            assert [(item["program"], item["hook"]) for item in ours] == [(theirs[0]["id"], "cgroup_inet_egress")]
            assert {"cgroup": str(group), "program": theirs[0]["id"]}.items() <= bpf2py_json("cgroup", "tree")[
                -1
            ].items() or [item for item in bpf2py_json("cgroup", "tree") if item["cgroup"] == str(group)]
    finally:
        group.rmdir()
    done = run("cgroup", "list", "no/such/group")
    assert (done.returncode, done.stderr) == (1, "bpf2py: there is no control group 'no/such/group'\n")


def test_btf(obj: Any) -> None:
    program = obj.programs["obj_asked"].info
    ours, theirs = row(bpf2py_json("btf", "list"), program.btf_id), row(bpftool("btf", "list"), program.btf_id)
    assert (ours["size"], ours["kernel"]) == (theirs["size"], theirs["kernel"])
    assert set(theirs["prog_ids"]) == set(ours["programs"])
    assert set(theirs["map_ids"]) <= set(ours["maps"])
    assert row(bpf2py_json("btf", "list"), 1)["name"] == "vmlinux"
    for arguments in (["--prog", str(program.id)], ["--map", str(obj.maps["obj_counts"].id)], [str(program.btf_id)]):
        assert "struct counter {\n" in run("btf", "dump", *arguments).stdout
    lines = run("btf", "dump", str(program.btf_id), "--raw").stdout.splitlines()
    assert len(lines) == len(bpftool("btf", "dump", "id", str(program.btf_id))["types"])
    (struct,) = [line for line in lines if "STRUCT counter" in line]
    assert "size=16: pid@0 " in struct
    assert ", count@8 " in struct
    assert run("btf", "dump", str(program.btf_id), "--root", "nothing").returncode == 1
    assert "give one of" in run("btf", "dump").stderr


def test_struct_ops(compile_bpf: Any) -> None:
    source = """
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
SEC("struct_ops/obj_ssthresh") __u32 obj_ssthresh(__u64 *ctx) { return 2; }
SEC("struct_ops/obj_avoid") void obj_avoid(__u64 *ctx) { }
SEC("struct_ops/obj_undo") __u32 obj_undo(__u64 *ctx) { return 2; }
SEC(".struct_ops") struct tcp_congestion_ops obj_ops = {
    .ssthresh = (void *)obj_ssthresh, .cong_avoid = (void *)obj_avoid, .undo_cwnd = (void *)obj_undo, .name = "obj_ops",
};
char LICENSE[] SEC("license") = "GPL";
"""
    with bpf2py.load(compile_bpf(source), "kernel") as loaded:
        ident = loaded.maps["obj_ops"].id
        ours = row(bpf2py_json("struct_ops", "list"), ident)
        assert {"name": "obj_ops", "interface": "tcp_congestion_ops"}.items() <= ours.items()
        assert row(bpftool("struct_ops", "list"), ident)["kernel_struct_ops"] == "tcp_congestion_ops"


def test_maps_are_made_pinned_and_frozen(bpffs: Path) -> None:
    path = str(bpffs / "made")
    assert (
        run("map", "create", path, "--type", "hash", "--key", "u32", "--value", "8", "--max-entries", "3").returncode
        == 0
    )
    assert run("map", "set", path, "1", "5").returncode == 0
    assert run("map", "set", path, "2", "7").returncode == 0
    keys, arguments = [], ["map", "next", path, "--json"]
    while (done := run(*arguments)).returncode == 0:
        keys.append(json.loads(done.stdout))
        arguments = ["map", "next", path, f"hex:{keys[-1]}", "--json"]
    assert sorted(keys) == ["01000000", "02000000"]
    assert "there are no more keys" in done.stderr
    assert run("map", "freeze", path).returncode == 0
    assert "the map is frozen" in run("map", "set", path, "1", "6").stderr
    assert run("map", "pin", path, str(bpffs / "again")).returncode == 0
    assert bpf2py_json("map", "show", str(bpffs / "again"))["name"] == "made"
    queue = str(bpffs / "queue")
    assert run("map", "create", queue, "--type", "queue", "--value", "4", "--max-entries", "3").returncode == 0
    assert "empty" in run("map", "peek", queue).stderr
    assert run("map", "push", queue, "9").returncode == 0
    assert [run("map", "peek", queue).stdout for _ in range(2)] == ["09 00 00 00\n"] * 2
    assert "peek is for QUEUE and STACK" in run("map", "peek", path).stderr
    wrong = run("map", "create", str(bpffs / "x"), "--type", "hash", "--flags", "no_prealoc")
    assert "is not a number or one of no_prealloc" in wrong.stderr


def test_programs_are_loaded_attached_and_profiled(source: str, bpffs: Path) -> None:
    assert run("prog", "load", source, str(bpffs / "p"), "--pin-maps", str(bpffs / "p" / "maps")).returncode == 0
    assert sorted(os.listdir(bpffs / "p")) == ["maps", "obj_asked", "obj_cgroup", "obj_tc", "obj_xdp"]
    assert sorted(os.listdir(bpffs / "p" / "maps")) == ["bss", "obj_counts", "rodata_cst16"]
    asked, link = str(bpffs / "p" / "obj_asked"), str(bpffs / "link")
    assert run("prog", "attach", asked, "tracepoint/syscalls/sys_enter_getpgid", link).returncode == 0
    os.getpgid(0)
    assert bpf2py_json("map", "dump", str(bpffs / "p" / "maps" / "obj_counts")) == [
        {"key": 1, "value": {"pid": 2, "count": 0}}
    ]
    script = "import os\nprint(1, flush=True)\nwhile True: os.getpgid(0)"
    with subprocess.Popen([sys.executable, "-S", "-c", script], stdout=subprocess.PIPE) as busy:
        assert busy.stdout is not None
        busy.stdout.readline()
        try:
            profile = bpf2py_json("prog", "profile", asked, "--duration", "0.3")
            assert profile["runs"] > 0
            assert profile["ns_per_run"] > 0
            report = bpf2py_json("prog", "top", "--interval", "0.3")
            mine = row(report["programs"], profile["id"])
            assert mine["runs_per_second"] > 0
            assert mine["cpu_percent"] > 0
            assert (
                row(report["maps"], bpf2py_json("map", "show", str(bpffs / "p" / "maps" / "obj_counts"))["id"])[
                    "elements"
                ]
                == 1
            )
        finally:
            busy.kill()
    assert run("prog", "pin", asked, str(bpffs / "again")).returncode == 0
    wrong = run("prog", "attach", asked, "xdp", str(bpffs / "no"), "-o", "device=lo")
    assert "it is of type TRACEPOINT, SEC('xdp') of XDP" in wrong.stderr
    wrong = run("prog", "attach", str(bpffs / "p" / "obj_xdp"), "xdp", str(bpffs / "no"), "-o", "devic=lo")
    assert "it takes device, mode, netlink; did you mean device=?" in wrong.stderr
    xdp = str(bpffs / "p" / "obj_xdp")
    assert (
        run("prog", "attach", xdp, "xdp", str(bpffs / "xdp"), "-o", "device=lo", "-o", "mode=generic").returncode == 0
    )
    assert run("prog", "detach", xdp).returncode == 0
    assert "is not attached by a link" not in run("prog", "detach", xdp).stderr  # the pinned link is still its own
    assert not [item for item in bpf2py_json("net") if item["name"] == "obj_xdp"]


def test_a_load_that_fails_leaves_nothing(source: str, bpffs: Path) -> None:
    (bpffs / "p").mkdir()
    (bpffs / "p" / "maps").mkdir()
    taken = ["--type", "array", "--key", "4", "--value", "4", "--max-entries", "1"]
    assert run("map", "create", str(bpffs / "p" / "maps" / "bss"), *taken).returncode == 0
    done = run("prog", "load", source, str(bpffs / "p"), "--pin-maps", str(bpffs / "p" / "maps"))
    assert done.returncode == 1
    assert "bss exists" in done.stderr
    assert os.listdir(bpffs / "p") == ["maps"]
    assert os.listdir(bpffs / "p" / "maps") == ["bss"]


def test_completion(obj: Any, bpffs: Path) -> None:
    obj.maps["obj_counts"].pin(bpffs / "map")
    link = obj.programs["obj_asked"].attach()
    assert "obj_counts" in complete_map("obj_c")
    assert str(bpffs / "map") in complete_map(str(bpffs))
    assert complete_program("obj_x") == ["obj_xdp"]
    assert str(link.info["id"]) in complete_link("")
    assert "tracepoint/" in complete_section("trace")
    assert complete_section("tp/syscalls/sys_enter_getpg") == [
        "tp/syscalls/sys_enter_getpgid",
        "tp/syscalls/sys_enter_getpgrp",
    ]
    assert "kprobe/vfs_read" in complete_section("kprobe/vfs_rea")
    assert complete_section("tp/no_such/x") == []


def test_global_variables_by_name(obj: Any) -> None:
    section = str(obj.maps[".bss"].id)
    obj.variables["runs"].value = 7
    assert bpf2py_json("map", "dump", section) == [{"key": "runs", "value": 7}]
    assert run("map", "dump", section).stdout.split() == ["variable", "value", "runs", "7"]
    assert bpf2py_json("map", "get", section, "runs") == 7
    assert run("map", "set", section, "runs", "0x10").returncode == 0
    assert obj.variables["runs"].value == 16
    for arguments, words in (
        (["get", section, "run"], "there is no variable 'run': runs"),
        (["set", section, "runs", "-1"], "value '-1' does not fit unsigned long long"),
        (["set", section, "runs", "many"], "value 'many' does not fit"),
    ):
        done = run("map", *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert words in done.stderr
    assert bpf2py_json("map", "get", section, "0") == (16).to_bytes(8, "little").hex()  # the section as a whole


def test_every_command_prints_json(obj: Any, source: str, bpffs: Path, tmp_path: Path) -> None:
    obj.attach()
    bpf_map, program = str(obj.maps["obj_counts"].id), str(obj.programs["obj_xdp"].info.id)
    bpf2py.Map.create("QUEUE", value="u32", max_entries=4, name="obj_queue", backend="kernel").pin(bpffs / "queue")
    packets = tmp_path / "empty.pcap"
    packets.write_bytes(bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000"))
    obj.maps["obj_counts"][1] = {"pid": 1, "count": 1}
    keys = tmp_path / "keys"
    keys.write_text("1\n2\n1\n")
    lru = bpf2py.Map.create("LRU_HASH", 4, 4, 8, backend="kernel")
    for index in range(2):
        assert run("map", "push", str(bpffs / "queue"), f"hex:0{index} 00 00 00").returncode == 0
    recording = tmp_path / "counts.parquet"
    assert run("record", bpf_map, "-o", str(recording), "--count", "1").returncode == 0
    link = str(obj.links[0].info["id"])
    arguments: dict[str, list[str]] = {
        "run": [source, "--attach", "obj_xdp:device=lo,mode=generic", "--duration", "0"], "doctor": [], "features": [],
        "inspect": [source], "verify": [source],
            "map list": [], "map show": [bpf_map], "map dump": [bpf_map], "map get": [bpf_map, "1"],
        "map peek": [str(bpffs / "queue")],
        "map pop": [str(bpffs / "queue")], "map next": [bpf_map], "map top": [], "events": [], "trace": ["--timeout", "0"],
        "prog list": [], "prog show": [program], "prog top": ["--interval", "0.1"], "top": ["--interval", "0.1"],
        "prog profile": [program, "--duration", "0.1"],
        "link list": [], "link show": [link], "net": [], "cgroup list": ["/"], "cgroup tree": [], "btf list": [],
        "struct_ops list": [], "replay": [str(recording)], "packets": [source, str(packets), "--program", "obj_xdp"],
        "lru predict": ["-n", "10"], "lru size": [str(keys), "--processes", "1"],
        "lru watch": [str(lru.info.id), "--count", "1", "--interval", "0.05"],
        **{f"tool {name}": ["--duration", "0.1"] for name in NAMES},
        **{f"tool {name}": ["--duration", "0.1", "libc:getpgid"] for name in ("funccount", "funclatency", "stackcount")},
        "tool memleak": ["--duration", "0.1", "--pid", str(os.getpid())],
        "tool argdist": ["--duration", "0.1", "libc:getpgid", "--value", "arg1"],
    }  # fmt: skip
    assert with_json() == set(arguments)
    for command, given in arguments.items():
        if command == "events":
            continue  # it needs a ring of its own: tests/cli/test_map.py
        done = run(*command.split(), *given, "--json")
        assert done.returncode == 0, f"{command}: {done.stderr}"
        several = command in ("run", "trace", "replay") or command.startswith("tool ")
        for line in done.stdout.splitlines() if several else [done.stdout]:
            json.loads(line)


def with_json() -> set[str]:
    """The commands that have --json."""
    from typer.main import get_command

    from bpf2py.cli import COMMANDS, build

    root: Any = get_command(build(list(COMMANDS)))
    found = set()
    for name, command in root.commands.items():
        for sub, leaf in getattr(command, "commands", {"": command}).items():
            if any("--json" in parameter.opts for parameter in leaf.params):
                found.add(f"{name} {sub}".strip())
    return found
