"""The LRU laboratory: predictions are what the running kernel does, and exact LRU is exact."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bpf2py
from bpf2py import Map, MapFlags, MapType
from bpf2py.engine import Engine
from bpf2py.errors import EncodeError, NotSupported
from bpf2py.lab.ideal import Curve, distances
from bpf2py.lab.lru import Setup, hits, largest_batch, predict, survivors
from bpf2py.lab.plot import hit_rates
from bpf2py.lab.size import Sweep, workers
from bpf2py.lab.traces import read_trace
from bpf2py.lab.watch import Evictions
from bpf2py.uapi.cpus import possible_cpus

REPLAY = (Path(__file__).parent / "replay.bpf.c").read_text()


def exact(keys: list[int], size: int) -> int:
    """Hits of an LRU, the plain way."""
    held: OrderedDict[int, None] = OrderedDict()
    found = 0
    for key in keys:
        if key in held:
            found += 1
            held.move_to_end(key)
        else:
            held[key] = None
            if len(held) > size:
                held.popitem(last=False)
    return found


def test_the_numbers_everybody_asks_about() -> None:
    kept = predict(Setup(1003, 6, "6.1")).kept
    assert [len(keys) for keys in kept] == [983, 855, 727, 599, 471, 343]
    assert kept[0] == list(range(22, 1005))
    assert predict(Setup(10, 6, "6.1"), 11, 1).kept == [[11]]
    assert len(predict(Setup(1003, 8, "6.18"), turns=1).kept[0]) == 953
    assert len(predict(Setup(1003, 8, "6.18", no_common=True), turns=1).kept[0]) == 124
    assert len(predict(Setup(1003, 6, "6.1", per_cpu=True)).kept[-1]) == 343


@pytest.mark.parametrize(
    ("setup", "batch", "said"),
    [
        (Setup(1003, 6, "6.1"), 128, "evicts as many as it lacks for a batch"),
        (Setup(1003, 6, "6.12.38"), 128, "343 keys are left"),
        (Setup(1003, 6, "6.18"), 83, "batches of 83"),
        (Setup(10, 8, "6.18"), 1, "batches of 1 "),
        (Setup(100, 4, "6.18", no_common=True), 4, "a list of 25 elements"),
    ],
)
def test_words(setup: Setup, batch: int, said: str) -> None:
    assert largest_batch(setup) == batch
    assert said in predict(setup).words


def test_what_makes_no_sense() -> None:
    for inserted, turns in ((0, 1), (5, 0), (5, 5)):
        with pytest.raises(EncodeError, match="both must be at least 1"):
            predict(Setup(10, 4), inserted, turns)
    engine = Engine(possible_cpus=2)
    with Map.create("LRU_HASH", 8, 8, 4, backend=engine) as lru:
        with pytest.raises(EncodeError, match="not as many of each"):
            engine.replay(lru._handle, bytes(9))
        with pytest.raises(EncodeError, match="not as many of each"):
            engine.replay(lru._handle, bytes(16), bytes(2))
        with pytest.raises(EncodeError, match="there are 2 CPUs"):
            engine.replay(lru._handle, bytes(8), b"\x02\0")
        assert engine.replay(lru._handle, bytes(24)) == b"\1\0\0"
        assert engine.replay(lru._handle, b"") == b""
        assert engine.current_cpu == 0
        assert len(lru) == 1


@pytest.mark.kernel
@pytest.mark.parametrize("seed", range(4))
def test_survivors_are_the_kernels(seed: int) -> None:
    """Key for key, in fifty random set-ups: sizes, kinds, how many keys, and which CPUs insert them."""
    rng = random.Random(seed)
    cpus = possible_cpus()
    release = ".".join(os.uname().release.split("-")[0].split(".")[:3])
    allowed = sorted(os.sched_getaffinity(0))
    for _ in range(50):
        entries = rng.choice((1, 2, 7, 10, 100, 128, 257, 500, 1003, rng.randrange(1, 2000)))
        setup = Setup(entries, cpus, release, rng.random() < 0.3, rng.random() < 0.3)
        inserted = rng.choice((entries, entries + 1, rng.randrange(1, 2 * entries + 2)))
        turns = [rng.choice(allowed) for _ in range(rng.randrange(1, 4))]
        kind = MapType.LRU_PERCPU_HASH if setup.per_cpu else MapType.LRU_HASH
        flags = MapFlags.NO_COMMON_LRU if setup.no_common else 0
        real = []
        try:
            with Map.create(kind, 8, 8, entries, flags=flags, backend="kernel") as lru:
                for cpu in turns:
                    os.sched_setaffinity(0, {cpu})
                    for key in range(1, inserted + 1):
                        lru[key.to_bytes(8, "little")] = bytes(8)
                    real.append(sorted(int.from_bytes(key, "little") for key in lru))
        finally:
            os.sched_setaffinity(0, allowed)
        assert survivors(setup, inserted, turns) == real, (setup, inserted, turns)


@pytest.mark.kernel
@pytest.mark.parametrize("entries", [16, 100, 300, 1000])
def test_a_trace_hits_as_on_the_kernel(compile_bpf: Callable[[str], bytes], entries: int) -> None:
    """Uses by a program, on both CPUs in turn: as many hits, and the same keys at the end."""
    rng = np.random.default_rng(entries)
    keys = (rng.zipf(1.3, 20_000) % 3000).astype(np.uint64)
    allowed = sorted(os.sched_getaffinity(0))
    spec = bpf2py.ObjectSpec.from_bytes(compile_bpf(REPLAY))
    spec.maps["lru"].max_entries = entries
    cpus = np.zeros(len(keys), np.uint16)
    try:
        with bpf2py.load(spec, "kernel") as obj:
            obj.maps["keys"].update(dict(enumerate(int(key) for key in keys)))
            at = 0
            while at < len(keys):
                cpu = allowed[int(rng.integers(len(allowed)))]
                piece = min(int(rng.integers(1, 700)), len(keys) - at)
                cpus[at : at + piece] = cpu
                os.sched_setaffinity(0, {cpu})
                obj.variables["first"].value, obj.variables["count"].value = at, piece
                obj.programs["replay"].test_run()
                at += piece
            real_hits, real_keys = obj.variables["hits"].value, sorted(obj.maps["lru"])
    finally:
        os.sched_setaffinity(0, allowed)
    release = ".".join(os.uname().release.split("-")[0].split(".")[:3])
    setup = Setup(entries, possible_cpus(), release)
    found = hits(setup, keys, cpus)
    assert found.hits == real_hits
    assert found.kept == len(real_keys)
    engine = Engine(release, possible_cpus())
    with Map.create("LRU_HASH", 8, 8, entries, backend=engine) as lru:
        engine.replay(lru._handle, keys.tobytes(), cpus.tobytes())
        assert sorted(int.from_bytes(key, "little") for key in lru) == real_keys


@pytest.mark.kernel
def test_evictions_on_this_kernel() -> None:
    """Counted where that is allowed; else by the keys that are gone, which the deleted ones are among."""
    with Map.create("LRU_HASH", key="u32", value="u32", max_entries=64, backend="kernel") as lru:
        for key in range(40):
            lru[key] = key
        before = set(lru)
        with Evictions(lru) as evictions:
            for key in range(1000, 1064):
                lru[key] = key
            gone, there = len(before - set(lru)), len(lru)
            reading = evictions.read()
            assert reading.elements == there
            if evictions.how == "at least":
                assert reading.evicted == gone > 0
            else:
                assert reading.evicted == len(before) + 64 - there
            assert evictions.read().evicted == 0


@pytest.mark.kernel
def test_watching_from_the_shell(compile_bpf: Callable[[str], bytes], tmp_path: Path) -> None:
    with Map.create("LRU_HASH", key="u32", value="u32", max_entries=16, name="watched", backend="kernel") as lru:
        lru[1] = 1
        ident = str(lru.info.id)
        (line,) = run("watch", ident, "--count", "1", "--interval", "0.05", "--json").stdout.splitlines()
        told = json.loads(line)
        assert (told["elements"], told["evicted"]) == (1, 0)
        assert "watched: max_entries 16" in run("watch", ident, "--count", "1", "--interval", "0.05").stdout
        done = run("trace", ident, "-o", str(tmp_path / "no" / "keys.csv"))
        assert (done.returncode, "No such file" in done.stderr) == (1, True)
    with Map.create("HASH", key="u32", value="u32", max_entries=16, backend="kernel") as plain:
        done = run("watch", str(plain.info.id), "--count", "1")
        assert done.returncode == 1
        assert "it is not an LRU_HASH" in done.stderr


@pytest.mark.kernel
def test_a_trace_from_a_ring_of_ones_own(compile_bpf: Callable[[str], bytes], tmp_path: Path) -> None:
    source = """
    #include <linux/bpf.h>
    #include <bpf/bpf_helpers.h>
    struct event { __u64 when; __u32 address; };
    struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 65536); __type(value, struct event); } events SEC(".maps");
    SEC("syscall") int say(__u32 *wanted)
    {
        struct event event = { .address = *wanted };
        return bpf_ringbuf_output(&events, &event, sizeof(event), 0);
    }
    char LICENSE[] SEC("license") = "GPL";
    """
    path = tmp_path / "keys.csv"
    with bpf2py.load(compile_bpf(source), "kernel") as obj:
        for address in (7, 9, 7, 7):
            obj.programs["say"].test_run(context=address.to_bytes(4, "little"))
        ident = str(obj.maps["events"].info.id)
        done = run("trace", ident, "--type", "event", "--field", "nothing", "-o", str(path), "--duration", "0")
        assert (done.returncode, "they have: address, when" in done.stderr) == (1, True), done.stderr
        for address in (7, 9, 7, 7):
            obj.programs["say"].test_run(context=address.to_bytes(4, "little"))
        done = run("trace", ident, "--type", "event", "--field", "address", "-o", str(path), "--count", "4")
        assert done.returncode == 0, done.stderr
    assert read_trace(str(path), "key", "cpu").keys.tolist() == [7, 9, 7, 7]
    assert "4 uses of 2 keys" in run("size", str(path), "--column", "key", "--sizes", "1", "--processes", "1").stdout


@pytest.mark.parametrize("seed", range(5))
def test_exact_lru(seed: int) -> None:
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, int(rng.integers(1, 400)), int(rng.integers(1, 3000))).astype(np.uint64)
    curve = Curve.of(keys)
    listed = keys.tolist()
    assert curve.different == len(set(listed))
    for size in (0, 1, 2, 3, 10, 57, 200, 399, 400, 10_000):
        assert curve.hits(size) == (exact(listed, size) if size else 0)
    for rate in (0.01, 0.3, 0.9):
        enough = curve.size_for(rate)
        if enough is None:
            assert curve.hits(1 << 20) < rate * len(keys)
        else:
            assert curve.hits(enough) >= rate * len(keys) > curve.hits(enough - 1)


def test_exact_lru_of_little() -> None:
    assert Curve.of(np.array([], np.uint64)).hits(5) == 0
    assert distances(np.array([5], np.uint64)).tolist() == [-1]
    assert distances(np.array([1, 2, 2, 1, 3, 1], np.uint64)).tolist() == [-1, -1, 0, 1, -1, 1]


def test_exact_lru_is_libcachesims() -> None:
    library = pytest.importorskip("libcachesim")
    rng = np.random.default_rng(3)
    keys = (rng.zipf(1.2, 5000) % 700).astype(np.uint64)
    for size in (1, 20, 300):
        cache = library.LRU(cache_size=size)
        found = 0
        for key in keys.tolist():
            request = library.Request()
            request.obj_id, request.obj_size = key, 1
            found += bool(cache.get(request))
        assert Curve.of(keys).hits(size) == found


def test_the_size_for_a_rate() -> None:
    rng = np.random.default_rng(1)
    keys = (rng.zipf(1.2, 30_000) % 4000).astype(np.uint64)
    sweep = Sweep(keys, (np.arange(len(keys)) % 4).astype(np.uint16))
    for kernel in ("6.1", "6.18"):
        setup = Setup(1, 4, kernel)
        size = sweep.size_for(0.7, setup)
        ideal = sweep.curve.size_for(0.7)
        assert size is not None
        assert ideal is not None
        assert size >= ideal
        assert sweep.hits([setup._replace(max_entries=size)])[0].rate >= 0.7
        assert sweep.hits([setup._replace(max_entries=int(size / 1.1))])[0].rate < 0.7
    assert sweep.size_for(0.999, Setup(1)) is None


def test_on_several_processes_and_on_a_cluster() -> None:
    rng = np.random.default_rng(2)
    keys = (rng.zipf(1.2, 5000) % 900).astype(np.uint64)
    setups = [Setup(entries, 2, kernel) for entries in (50, 300) for kernel in ("6.1", "6.18")]
    alone = Sweep(keys).hits(setups)
    come: list[Any] = []
    with workers(2) as pool:
        assert Sweep(keys, None, pool).hits(setups, come.append) == alone == come
    distributed = pytest.importorskip("distributed")
    local = {"protocol": "tcp", "host": "127.0.0.1"}  # by itself it asks for a route to the Internet
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, **local
        ) as cluster,
        workers(scheduler=cluster.scheduler_address) as pool,
    ):
        assert Sweep(keys, None, pool).hits(setups) == alone


@pytest.mark.parametrize(
    ("text", "options", "keys", "cpus"),
    [
        ("5\n7\n5\n", {}, [5, 7, 5], None),
        ("key\n5\n7\n", {}, [5, 7], None),
        ("1,500,10\n2,600,10\n", {}, [500, 600], None),
        ("time,obj_id,size\n1,5,10\n2,6,10\n", {}, [5, 6], None),
        ("when,what,cpu\n1,b,0\n2,a,3\n3,b,1\n", {"column": "what", "cpu_column": "cpu"}, [1, 0, 1], [0, 3, 1]),
        ("a,b\n\nb,c\n", {"column": "0"}, [0], None),
        ("18446744073709551615\n", {}, [(1 << 64) - 1], None),
        ("18446744073709551616\n", {}, [0], None),  # a name like any other
    ],
)
def test_reading_traces(tmp_path: Path, text: str, options: Any, keys: list[int], cpus: list[int] | None) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    trace = read_trace(str(path), **options)
    assert trace.keys.tolist() == keys
    assert (trace.cpus.tolist() if trace.cpus is not None else None) == cpus


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("", {}, "there are no keys"),
        ("key\n", {}, "there are no keys"),
        ("a,b\nc,d\n", {"column": "missing"}, "there is no column 'missing'; there are a, b"),
        ("1,2\n3,4\n", {"column": "9"}, "there are 0 to 1"),
        ("time,id\n1,2\n3\n", {}, "line 3 has 1 columns only"),
        ("k,cpu\n1,x\n", {"column": "k", "cpu_column": "cpu"}, "is not a number of a CPU"),
        ("k,cpu\n1,-1\n", {"column": "k", "cpu_column": "cpu"}, "CPUs are 0 to 8191"),
    ],
)
def test_traces_that_cannot_be_read(tmp_path: Path, text: str, options: Any, said: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(EncodeError, match=said):
        read_trace(str(path), **options)


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = str(tmp_path / "trace.parquet")
    parquet.write_table(pyarrow.table({"time": [1, 2, 3], "key": [5, 6, 5], "cpu": [0, 1, 0]}), path)
    trace = read_trace(path, cpu_column="cpu")
    assert trace.keys.tolist() == [5, 6, 5]
    assert trace.cpus is not None
    assert trace.cpus.tolist() == [0, 1, 0]
    (tmp_path / "trace.parquet").write_text("nothing")
    with pytest.raises(EncodeError, match="not a Parquet file"):
        read_trace(path)


def test_a_picture() -> None:
    text = hit_rates({"exact LRU": [(10, 0.5), (100, 0.9)], "<b>": [(10, 0.2), (100, 0.8)]}, "A & B")
    assert text.startswith("<svg")
    assert "&lt;b&gt;" in text
    assert "A &amp; B" in text
    assert text.count("<polyline") == 2


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "bpf2py", "lru", *arguments], capture_output=True, text=True)


def test_the_commands(tmp_path: Path) -> None:
    done = run("predict", "-n", "1003", "--cpus", "6", "--kernel", "6.1")
    assert done.returncode == 0, done.stderr
    assert "6   343  662-1004" in done.stdout
    told = json.loads(run("predict", "-n", "10", "--cpus", "2", "--kernel", "6.18", "--json").stdout)
    assert told["kept"] == [9, 7]
    rng = random.Random(1)
    (tmp_path / "keys").write_text("".join(f"{int(rng.paretovariate(0.9)) % 3000}\n" for _ in range(5000)))
    picture = tmp_path / "rates.svg"
    arguments = [
        "size",
        str(tmp_path / "keys"),
        "--rate",
        "0.6",
        "--kernels",
        "6.1",
        "--processes",
        "1",
        "--svg",
        str(picture),
    ]
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert "max_entries" in done.stdout
    assert "times what an exact LRU needs" in done.stdout
    assert picture.read_text().count("<polyline") == 2
    told = json.loads(run(*arguments, "--json", "--sizes", "10,100").stdout)
    assert [row["max_entries"] for row in told["results"]] == [10, 100]
    assert all(0 < row["hit_rate"] <= 1 for row in told["results"])
    assert told["max_entries"]["6.1"] > 1
    for wrong, said in (
        (["size", str(tmp_path / "missing")], "No such file"),
        (["size", str(tmp_path / "keys"), "--rate", "2"], "--rate is from 0 to 1"),
        (["size", str(tmp_path / "keys"), "--sizes", "x"], "numbers apart by commas"),
        (["size", str(tmp_path / "keys"), "--kernels", "banana"], "banana"),
        (["predict", "-n", "5", "--inserting-cpus", "9"], "no more CPUs"),
    ):
        done = run(*wrong)
        assert done.returncode == 1, (wrong, done.stdout)
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_a_cluster_needs_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(NotSupported, match="dask is not installed"), workers(scheduler="tcp://127.0.0.1:1"):
        pass
