"""`bpf2py record` and `replay`: types, pieces, what a killed process left, and events put back."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bpf2py
from bpf2py import RingReader
from bpf2py.engine import Engine
from bpf2py.errors import BpfError, MapFull, NotSupported
from bpf2py.export.recorder import EventRecorder, SnapshotRecorder, recorder
from bpf2py.export.recording import Recording, pieces, rows
from bpf2py.export.replay import replay
from bpf2py.maps.fd_values import event_codec_of

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
ipc = pytest.importorskip("pyarrow.ipc")

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
enum mode { READING = 0, WRITING = 1 };
struct inner_part { __u32 a; __u8 mac[6]; };
union either { __u32 number; __u8 octets[4]; };
struct open_event {
    __u64 at_ns; __s32 pid; enum mode mode; char comm[16]; struct inner_part inner; __u16 three[3]; union either e;
    __u32 bit : 3, more : 5; _Bool yes;
};
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); __type(value, struct open_event); } events SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_HASH); __uint(max_entries, 100); __type(key, enum mode); __type(value, __u64); }
    counts SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 3); __type(key, __u32); __type(value, struct inner_part); }
    parts SEC(".maps");
SEC("raw_tp/sys_enter") int emit(struct bpf_raw_tracepoint_args *ctx)
{
    struct open_event event = { ctx->args[0], -5, ctx->args[1], "sh", { 7, { 1, 2, 3, 4, 5, 6 } }, { 1, 2, 3 }, { 258 }, 5, 17, 1 };

    return bpf_ringbuf_output(&events, &event, sizeof(event), 0);
}
char LICENSE[] SEC("license") = "GPL";
"""
EVENT = {
    "at_ns": 1, "pid": -5, "mode": "WRITING", "comm": "sh", "inner": {"a": 7, "mac": bytes(range(1, 7))}, "three": [1, 2, 3],
    "e": bytes([2, 1, 0, 0]), "bit": 5, "more": 17, "yes": True,
}  # fmt: skip
Compile = Callable[[str], bytes]


def emit(obj: Any, *events: tuple[int, int]) -> None:
    for at, mode in events:
        obj.programs["emit"].test_run(context=at.to_bytes(8, "little") + mode.to_bytes(8, "little"))


def recorded(path: Path) -> list[Any]:
    return [row["event"] for row, _ in rows(path)]


def test_types_of_events(compile_bpf: Compile, tmp_path: Path) -> None:
    with (
        bpf2py.load(compile_bpf(SOURCE), Engine(possible_cpus=2)) as obj,
        Recording(tmp_path / "o.parquet", {"map": "events"}) as written,
    ):
        ring: Any = obj.maps["events"]
        taking = EventRecorder(ring, event_codec_of(ring.spec), written, "at_ns")
        emit(obj, (1, 1), (2, 0), (3, 9))
        taking.step(0)
        emit(obj, (4, 9))
        taking.close()
    assert recorded(tmp_path / "o.parquet")[0] == EVENT
    # A value without a name is told as its number, also when it comes in a later batch.
    assert [event["mode"] for event in recorded(tmp_path / "o.parquet")] == ["WRITING", "READING", "9", "9"]
    schema = parquet.read_schema(tmp_path / "o.parquet")
    assert schema.field("time").type == pa.timestamp("ns", "UTC")
    event = schema.field("event").type
    assert pa.types.is_dictionary(event.field("mode").type)
    assert pa.types.is_struct(event.field("inner").type)
    assert event.field("pid").type == pa.int32()
    assert event.field("three").type.list_size == 3
    times = [row["time"] for row, _ in rows(tmp_path / "o.parquet")]
    assert [b - a for a, b in itertools.pairwise(times)] == [1, 1, 1]  # as the member says


def test_snapshots(compile_bpf: Compile, tmp_path: Path) -> None:
    now = [0.0]
    with bpf2py.load(compile_bpf(SOURCE), Engine(possible_cpus=2)) as obj:
        maps: Any = obj.maps
        with Recording(tmp_path / "c.parquet", {}) as written:
            taking = SnapshotRecorder(maps["counts"], written, 10, lambda: now[0])
            maps["counts"][1] = [3, 4]
            taking.step(0)
            now[0] = 9.9
            taking.step(0)
            now[0] = 10
            maps["counts"][0] = [0, 1]
            taking.step(0)
        told = [(row["key"], row["value"]) for row, _ in rows(tmp_path / "c.parquet")]
        assert told[0] == ("WRITING", [3, 4])
        assert sorted(told[1:]) == [("READING", [0, 1]), ("WRITING", [3, 4])]
        with Recording(tmp_path / "p.parquet", {}) as written:
            recorder(maps["parts"], None, written, 1, None).close()
        assert [row["key"] for row, _ in rows(tmp_path / "p.parquet")] == [0, 1, 2]
        with Recording(tmp_path / "x.parquet", {}) as written:
            for options, error in (
                ((maps["events"], None, written, 1.0, None), "--every is for maps with elements"),
                ((maps["counts"], None, written, None, "at"), "--time is for events"),
                ((maps["events"], event_codec_of(maps["events"].spec), written, None, "at"), "no member 'at'"),
            ):
                with pytest.raises(BpfError, match=error):
                    recorder(*options)
    with pytest.raises(FileNotFoundError):
        pieces(tmp_path / "x.parquet")  # nothing was recorded: there is no file


def numbers(*values: int) -> dict[str, Any]:
    return {"time": pa.array([0] * len(values)), "event": pa.array(list(values))}


def test_pieces_by_size_and_time_and_nothing_is_written_over(tmp_path: Path) -> None:
    now = [0.0]
    path = tmp_path / "r.parquet"
    for start in (0, 100):
        with Recording(path, {"start": start}, most_bytes=2000, most_seconds=5, clock=lambda: now[0]) as written:
            for number in range(start, start + 10):
                written.add(numbers(number, *[-1] * 40))
            now[0] += 6
            written.rotate()
            written.add(numbers(start + 50))
        assert written.rows == 10 * 41 + 1
        assert len(written.written) > 2
    assert len(pieces(path)) > 5
    assert [n for n in recorded(path) if n != -1] == [*range(10), 50, *range(100, 110), 150]
    assert {about["start"] for _, about in rows(path)} == {0, 100}
    assert not list(tmp_path.glob("*.arrows")) + list(tmp_path.glob("*.part"))


def test_what_a_killed_process_left_is_recovered(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    killed = Recording(path, {"map": "m"})
    killed.add(numbers(1, 2))
    killed.add(numbers(3))
    stream = tmp_path / "r.parquet.arrows"
    whole = stream.stat().st_size
    killed.add(numbers(4))
    killed._sink.close()
    os.truncate(stream, (whole + stream.stat().st_size) // 2)  # in the middle of the last batch
    with Recording(path, {"map": "m"}) as written:
        written.add(numbers(5))
    assert recorded(path) == [1, 2, 3, 5]
    assert [file.name for file in pieces(path)] == ["r.parquet", "r-1.parquet"]
    stream.write_bytes(b"rubbish")
    Recording(path, {}).close()
    assert not stream.exists()
    assert len(pieces(path)) == 2


def test_replayed_events_are_those_that_were_recorded(compile_bpf: Compile, tmp_path: Path) -> None:
    engine = Engine(possible_cpus=2)
    with bpf2py.load(compile_bpf(SOURCE), engine) as obj, Recording(tmp_path / "o.parquet", {}) as written:
        ring: Any = obj.maps["events"]
        taking = EventRecorder(ring, event_codec_of(ring.spec), written)
        emit(obj, (1, 1), (2, 0))
        taking.close()
    with bpf2py.load(compile_bpf(SOURCE), engine) as obj, RingReader(obj.maps["events"]) as reader:
        ring = obj.maps["events"]
        emit(obj, (1, 1), (2, 0))
        expected = [bytes(event) for batch in reader.flush() for event in batch]
        assert len(list(replay(tmp_path / "o.parquet", ring, engine))) == 2
        assert [bytes(event) for batch in reader.flush() for event in batch] == expected
        for _ in range(30):
            list(replay(tmp_path / "o.parquet", ring, engine)) and reader.flush()
        rounds = (replay(tmp_path / "o.parquet", ring, engine) for _ in range(200))
        with pytest.raises(MapFull, match="the ring is full, and nobody reads"):
            list(itertools.chain.from_iterable(rounds))
        with pytest.raises(NotSupported, match="nothing is replayed into a ARRAY"):
            replay(tmp_path / "o.parquet", obj.maps["parts"], engine)
        with pytest.raises(BpfError, match="a map of elements"):
            list(replay(tmp_path / "o.parquet", obj.maps["counts"], engine))


def test_replayed_elements(compile_bpf: Compile, tmp_path: Path) -> None:
    engine = Engine(possible_cpus=2)
    with bpf2py.load(compile_bpf(SOURCE), engine) as obj:
        maps: Any = obj.maps
        with Recording(tmp_path / "c.parquet", {}) as written:
            maps["counts"].update({1: [3, 4], 0: [5, 6]})
            recorder(maps["counts"], None, written, 1, None).close()
        before = dict(maps["counts"].items())
        maps["counts"].clear()
        list(replay(tmp_path / "c.parquet", maps["counts"], engine))
        assert dict(maps["counts"].items()) == before


def test_files_that_are_no_recordings(tmp_path: Path) -> None:
    with pytest.raises(BpfError, match="ends in"):
        Recording(tmp_path / "x.json", {})
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(BpfError, match="not a recording"):
        list(rows(tmp_path / "x.parquet"))
    parquet.write_table(pa.table({"a": [1]}), tmp_path / "y.parquet")
    with pytest.raises(NotSupported, match="it does not say what it is of"):
        list(rows(tmp_path / "y.parquet"))


# -- the commands ----------------------------------------------------------------------------------------------------

TRACED = """
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
struct call_event { u64 at_ns; u64 number; char comm[16]; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 20); } events SEC(".maps");
SEC("raw_tp/sys_enter") int on_call(struct bpf_raw_tracepoint_args *ctx)
{
    struct call_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

    if (!event)
        return 0;
    event->at_ns = bpf_ktime_get_ns();
    event->number = ctx->args[1];
    bpf_get_current_comm(event->comm, sizeof(event->comm));
    bpf_ringbuf_submit(event, 0);
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "bpf2py", *map(str, arguments)]


def has_whole_batch(stream: Path) -> bool:
    """Whether an Arrow stream has a batch that is written to its end; what is half written when its writer is killed is lost."""
    try:
        with pa.OSFile(str(stream)) as file:
            return bool(ipc.open_stream(file).read_next_batch().num_rows)
    except (OSError, StopIteration, pa.ArrowInvalid):
        return False


@pytest.mark.kernel
def test_record_and_replay_a_program(tmp_path: Path) -> None:
    (tmp_path / "calls.bpf.c").write_text(TRACED)
    file = tmp_path / "calls.parquet"
    recording = command("record", tmp_path / "calls.bpf.c", "-o", file, "--time", "at_ns")
    killed = subprocess.Popen(recording, stderr=subprocess.PIPE, text=True)
    assert killed.stderr is not None
    assert killed.stderr.readline() == f"bpf2py: recording events to {file}\n"
    stream = Path(f"{file}.arrows")
    while not has_whole_batch(stream):
        os.getppid()  # something to record
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    killed.stderr.close()
    done = subprocess.run([*recording, "--count", "5"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"in {file}, {tmp_path / 'calls-1.parquet'}" in done.stderr
    shown = subprocess.run(command("replay", file, "--json"), capture_output=True, text=True, check=True).stdout
    told = [json.loads(line) for line in shown.splitlines()]
    assert len(told) == sum(parquet.read_metadata(path).num_rows for path in pieces(file))
    assert all(set(row["event"]) == {"at_ns", "number", "comm"} for row in told)
    assert any(row["event"]["comm"].startswith("python") for row in told)
    plain = subprocess.run(command("replay", file), capture_output=True, text=True, check=True).stdout
    assert len(plain.splitlines()) == len(told)


@pytest.mark.kernel
def test_record_a_map(compile_bpf: Compile, tmp_path: Path) -> None:
    file = tmp_path / "m.parquet"
    with bpf2py.load(compile_bpf(SOURCE), "kernel") as obj:
        counts: Any = obj.maps["counts"]
        counts[1] = 4
        subprocess.run(command("record", counts.id, "-o", file, "--count", "1"), capture_output=True, check=True)
        cpus = counts.possible_cpus
    for row, about in rows(file):
        assert (row["key"], row["value"]) == ("WRITING", [4] * cpus)
        assert (about["map"], about["map_type"]) == ("counts", "PERCPU_HASH")


@pytest.mark.kernel
def test_replay_into_the_kernel(compile_bpf: Compile, tmp_path: Path) -> None:
    with Recording(tmp_path / "o.parquet", {}) as written:
        written.add({"time": pa.array([0]), "event": pa.array([EVENT])})
    with bpf2py.load(compile_bpf(SOURCE), "kernel") as obj, RingReader(obj.maps["events"]) as reader:
        ring: Any = obj.maps["events"]
        list(replay(tmp_path / "o.parquet", ring, "kernel"))
        (event,) = [event for batch in reader.flush() for event in batch]
        assert (event.at_ns, event.comm, event.inner.a, event.more, event.e.number) == (1, "sh", 7, 17, 258)


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["record", "PROGRAM", "-o", "x.json"], "ends in .parquet"),
        (["record", "PROGRAM", "-o", "x.parquet", "--map", "nowhere"], "no map 'nowhere'"),
        (["record", "no_such_map_at_all", "-o", "x.parquet"], "no_such_map_at_all"),
        (["replay", "/nowhere.parquet"], "there is no such recording"),
    ],
)
def test_what_the_commands_refuse(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "calls.bpf.c").write_text(TRACED)
    given = [str(tmp_path / "calls.bpf.c") if word == "PROGRAM" else word for word in arguments]
    done = subprocess.run(command(*given), capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
