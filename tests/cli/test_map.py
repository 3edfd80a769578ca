"""bpf2py map, prog, link and inspect, as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bpf2py
from bpf2py.btf.codec import BytesCodec, FloatCodec, IntCodec
from bpf2py.btf.types import Kind
from bpf2py.btf.vmlinux import vmlinux
from bpf2py.cli.values import parse

EXAMPLE = Path(__file__).parents[2] / "examples" / "exec_counts.bpf.c"
NAME = f"t{os.getpid() % 100000}"


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bpf2py", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def ok(*arguments: str) -> str:
    done = cli(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fails(*arguments: str) -> str:
    """The one or two lines a refused command leaves on stderr."""
    done = cli(*arguments)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    return done.stderr


@pytest.fixture
def counts() -> Iterator[Any]:
    """A loaded example whose map has one element; its id is its name for the command line."""
    with bpf2py.load(EXAMPLE) as obj:
        counts = obj.maps["exec_counts"]
        counts[{"comm": "bash"}] = {"count": 7, "last_pid": 5}
        yield counts


@pytest.mark.kernel
def test_get_set_delete_typed_by_btf(counts: Any) -> None:
    ident = str(counts.id)
    assert ok("map", "get", ident, "comm=bash") == "count=7, last_ns=0, last_pid=5, last_uid=0\n"
    ok("map", "set", ident, '{"comm": "make"}', "count=0x10")
    assert counts[{"comm": "make"}].count == 16
    assert json.loads(ok("map", "get", ident, "comm=make", "--json"))["count"] == 16
    assert ok("map", "get", ident, "make") == ok("map", "get", ident, "comm=make"), "the only member needs no name"
    assert "comm=..." in fails("map", "get", ident, "com=make")
    assert "EEXIST" in fails("map", "set", ident, "comm=make", "count=1", "--create")
    ok("map", "delete", ident, "comm=make")
    assert "ENOENT" in fails("map", "get", ident, "comm=make")
    assert "count=..." in fails("map", "set", ident, "comm=make", "count=many")


@pytest.mark.kernel
def test_dump_as_table_json_and_csv(counts: Any) -> None:
    ident = str(counts.id)
    assert "exec_counts (HASH, 1 of 4096 elements)" in ok("map", "dump", ident)
    row = {"key": {"comm": "bash"}, "value": {"count": 7, "last_ns": 0, "last_pid": 5, "last_uid": 0}}
    assert json.loads(ok("map", "dump", ident, "--json")) == [row]
    assert ok("map", "dump", ident, "--csv") == "comm,count,last_ns,last_pid,last_uid\nbash,7,0,5,0\n"


@pytest.mark.kernel
def test_dump_as_parquet(counts: Any, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    ok("map", "dump", str(counts.id), "--parquet", str(tmp_path / "counts.parquet"))
    (row,) = parquet.read_table(tmp_path / "counts.parquet").to_pylist()
    assert row["key"] == {"comm": "bash"}
    assert row["value"]["count"] == 7


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("kind", "options", "content"),
    [
        ("HASH", {"key": "u32", "value": "u64"}, {1: 2, 3: 4}),
        ("PERCPU_HASH", {"key": "u32", "value": "u32"}, {7: 5}),
        ("LPM_TRIE", {"key_size": 8, "value": "u32", "flags": 1}, {"10.0.0.0/8": 1}),
        ("HASH", {"key_size": 6, "value_size": 3}, {b"abcdef": b"xyz"}),
    ],
)
def test_export_and_import(tmp_path: Path, kind: str, options: dict[str, Any], content: dict[Any, Any]) -> None:
    file = tmp_path / "elements.json"
    with (
        bpf2py.Map.create(kind, max_entries=10, **options) as source,
        bpf2py.Map.create(kind, max_entries=10, **options) as copy,
    ):
        source.update(content)
        ok("map", "export", str(source.id), str(file))
        assert "1 elements set" in cli("map", "import", str(copy.id), str(file)).stderr or len(content) > 1
        assert copy.snapshot() == source.snapshot()
        file.write_text("no json\n")
        assert "elements.json:1: no {key, value} object" in fails("map", "import", str(copy.id), str(file))
        assert "the suffix must be one of .json" in fails("map", "export", str(source.id), str(tmp_path / "x.xml"))


@pytest.mark.kernel
@pytest.mark.parametrize("kind", ["PERCPU_HASH", "LRU_PERCPU_HASH"])
def test_values_per_cpu_without_a_type(kind: str) -> None:
    """Bytes cannot be added up."""
    with bpf2py.Map.create(kind, key_size=2, value_size=3, max_entries=10) as unknown:
        cpus = unknown.possible_cpus
        for key in (b"ab", b"cd"):
            unknown[key] = [b"xyz"] * cpus
        each = " ".join(["78 79 7a"] * cpus)
        for command in (["dump"], ["watch", "--count", "1"]):
            said = ok("map", command[0], str(unknown.id), *command[1:])
            assert said.count(each) == 2


@pytest.mark.kernel
def test_events_are_typed_and_counted(tracefs: Any, tmp_path: Path) -> None:
    example = EXAMPLE.with_name("exec_events.bpf.c")
    with bpf2py.load(example) as obj:
        obj.attach()
        ident = str(obj.maps["events"].id)
        subprocess.run(["/bin/true"], check=True)
        out = ok("events", ident, "--types", str(example), "--type", "event", "--json", "--count", "1")
        assert set(json.loads(out)) == {"time_ns", "pid", "uid", "comm"}
        out = ok("events", ident, "--type", "event", "--json", "--count", "1")  # by the program's own types
        assert set(json.loads(out)) == {"time_ns", "pid", "uid", "comm"}
        assert f"({next(iter(obj.programs))}) have no type 'nothing'" in fails("events", ident, "--type", "nothing")
        subprocess.run(["/bin/true"], check=True)
        assert set(json.loads(ok("events", ident, "--types", str(example), "--json", "--count", "1"))) == {
            "time_ns", "pid", "uid", "comm",
        }  # fmt: skip
        assert "it has no map 'events': my_hash_map" in fails(
            "events", ident, "--types", str(EXAMPLE.with_name("map_basics.bpf.c"))
        )
        # The map does not say what its records are: what the program writes does.
        untyped = tmp_path / "untyped.bpf.c"
        untyped.write_text(example.read_text().replace("    __type(value, struct event);\n", ""))
        subprocess.run(["/bin/true"], check=True)
        assert set(json.loads(ok("events", ident, "--types", str(untyped), "--json", "--count", "1"))) == {
            "time_ns", "pid", "uid", "comm",
        }  # fmt: skip


@pytest.mark.kernel
def test_list_show_top_and_watch(counts: Any) -> None:
    rows = {row["id"]: row for row in json.loads(ok("map", "list", "--json"))}
    assert rows[counts.id]["name"] == "exec_counts"
    assert rows[counts.id]["memory"] > 0
    shown = json.loads(ok("map", "show", str(counts.id), "--json"))
    assert (shown["key"], shown["elements"], shown["max_entries"]) == ("struct command", 1, 4096)
    usage = {row["id"]: row for row in json.loads(ok("map", "top", "--json"))}
    assert usage[counts.id]["elements"] == 1
    assert "bash" in ok("map", "watch", str(counts.id), "--count", "1")


@pytest.mark.kernel
def test_queue_by_name() -> None:
    with bpf2py.Map.create("QUEUE", value="u32", max_entries=4, name=NAME) as queue:
        ok("map", "push", NAME, "hex:01 02 00 00")
        ok("map", "push", NAME, "7")
        assert ok("map", "pop", NAME) == "01 02 00 00\n"
        assert queue.pop() == 7
        assert "empty" in fails("map", "pop", NAME)
        with bpf2py.Map.create("QUEUE", value="u32", max_entries=4, name=NAME):
            assert f"several maps are named '{NAME}'" in fails("map", "pop", NAME)
    assert "there is no map" in fails("map", "pop", NAME)


@pytest.mark.kernel
def test_programs_and_links(counts: Any) -> None:
    with bpf2py.load(EXAMPLE) as obj:
        (link,) = obj.attach()
        program = obj.programs["count_exec"]
        rows = {row["id"]: row for row in json.loads(ok("prog", "list", "--json"))}
        assert rows[program.info.id]["tag"] == program.info.tag.hex()
        dumped = ok("prog", "dump", str(program.info.id))
        assert "call bpf_get_current_uid_gid" in dumped
        assert "exec_counts.bpf.c:" in dumped
        if link.info:
            links = {row["id"]: row for row in json.loads(ok("link", "list", "--json"))}
            listed = links[link.info["id"]]
            assert (listed["program"], listed["type"]) == (program.info.id, link.info["type"])
            assert listed["details"] == {k: v for k, v in link.info.items() if k not in ("type", "id", "prog_id")}
        head, *lines = ok("prog", "list").splitlines()
        (shown,) = [text for text in lines if text.split()[0] == str(program.info.id)]
        assert shown.split()[:4] == [str(program.info.id), "TRACEPOINT", "count_exec", program.info.tag.hex()]
        assert head.index("name") == shown.index("count_exec")
    assert "there is no program 'none_of_this_name'" in fails("prog", "show", "none_of_this_name")


RELOCATED = """
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
struct task_struct___other { int nobody_has_this; } __attribute__((preserve_access_index));
int result;
SEC("raw_tp/sys_enter") int read_task(void *ctx)
{
    struct task_struct *task = (void *)bpf_get_current_task();
    struct task_struct___other *other = (void *)task;

    result = BPF_CORE_READ(task, pid);
    if (result < 0)
        result = BPF_CORE_READ(other, nobody_has_this);
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.mark.kernel
def test_inspect_says_what_relocations_become(compile_bpf: Callable[[str], bytes], tmp_path: Path) -> None:
    path = tmp_path / "relocated.bpf.o"
    path.write_bytes(compile_bpf(RELOCATED))
    rows = {row["relocation"]: row for row in json.loads(ok("inspect", str(path), "-r", "--json"))["relocations"]}
    pid = rows["struct task_struct.pid (FIELD_BYTE_OFFSET)"]
    btf = vmlinux()
    (member,) = [m for m in btf.type(btf.find("task_struct", Kind.STRUCT)).members if m.name == "pid"]  # type: ignore[union-attr]
    assert (pid["function"], pid["value"]) == ("read_task", member.bit_offset // 8)
    assert ".bpf.c:" in pid["source"]
    assert rows["struct task_struct___other.nobody_has_this (FIELD_BYTE_OFFSET)"]["value"] is None
    shown = ok("inspect", str(path), "--relocations")
    assert "1 of 2 are not there" in shown
    # Against the object's own types, everything is there.
    assert "are not there" not in ok("inspect", str(path), "--btf", str(path))
    assert "not BTF" in fails("inspect", str(path), "--btf", __file__)


def test_inspect_needs_no_rights() -> None:
    report = json.loads(ok("inspect", str(EXAMPLE), "--json"))
    assert report["maps"]["exec_counts"]["key"] == "struct command"
    assert report["programs"]["count_exec"]["type"] == "TRACEPOINT"
    listing = ok("inspect", str(EXAMPLE), "--code", "--types")
    assert "call bpf_map_update_elem" in listing
    assert "exec_counts.bpf.c:" in listing
    assert "struct executions {" in listing
    assert "not an ELF file" in fails("inspect", str(EXAMPLE.parents[1] / "Makefile"))


@pytest.mark.kernel
@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000, "{" * 100_000, '{"comm": ' * 50_000, "9" * 6000, "0x" + "f" * 6000, "1e999", "NaN", "-1", "=", ",", "comm=",
        "", " ", "hex:", "hex:zz", "hex:" + "00" * 100_000, "null", "true", "[null]", '{"comm": null}', '{"comm": {"comm": 1}}',
        "comm=x,comm=y", '{"comm": "' + "x" * 100 + '"}', '{"": 1}', "\x1b[2J", "é" * 20, "{0}", "%s", "{comm}",
    ],
)  # fmt: skip
def test_any_text_is_a_key_or_a_typed_error(counts: Any, text: str) -> None:
    for codec in (
        counts.key_codec,
        counts.value_codec,
        IntCodec("u32", 4, False),
        BytesCodec(3),
        FloatCodec("double", 8),
    ):
        try:
            codec.encode(parse(codec, text, "key"))
        except bpf2py.BpfError as error:
            assert len(str(error)) < 3000  # noqa: PT017


@pytest.mark.kernel
@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\n",
        b"[" * 100_000,
        b"[]\n",
        b"1\n",
        b'{"key": 1}\n',
        b'{"key": [1], "value": {}}\n',
        b'{"key": null, "value": null}\n',
    ],
)
def test_a_file_that_is_none_of_ours(counts: Any, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "in.json").write_bytes(content)
    fails("map", "import", str(counts.id), str(tmp_path / "in.json"))
    assert len(counts) == 1
