"""What table.py measures in a fresh process: ``python -m benchmarks.child NAME ARGUMENT...`` prints a JSON object of numbers.

Nothing is imported before the clock starts but what the interpreter itself has.
"""

from __future__ import annotations

import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    import bpf2py

    Numbers = dict[str, float]

START = time.perf_counter()


def since(start: float) -> float:
    """Milliseconds."""
    return (time.perf_counter() - start) * 1e3


def first_read(path: str) -> Numbers:
    """From ``import bpf2py`` to the first value, and the memory that took."""
    import bpf2py

    with bpf2py.load(path) as obj:
        assert obj.maps["my_array_map"][0] == 0
        took = since(START)
        with open("/proc/self/status") as status:
            peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return {"ms": took, "mib": peak / 1024}


def peer_first_read(path: str) -> None:
    """The same with pylibbpf."""
    import os

    import pylibbpf  # type: ignore[import-not-found]

    obj = pylibbpf.BpfObject(path)
    obj.load()
    assert obj["my_array_map"][0] == 0
    took = since(START)
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    print(f'{{"ms": {took}, "mib": {peak / 1024}}}', flush=True)
    os._exit(0)


def peer_maps(path: str, count: str) -> None:
    """Nanoseconds of single operations with pylibbpf."""
    import os

    import pylibbpf

    obj = pylibbpf.BpfObject(path)
    obj.load()
    counts, best = obj["counts"], {"update": float("inf"), "lookup": float("inf")}
    keys = range(int(count))
    for _ in range(3):
        start = time.perf_counter()
        for key in keys:
            counts.update(key, key + 1)
        best["update"] = min(best["update"], since(start) * 1e6 / len(keys))
        start = time.perf_counter()
        for key in keys:
            counts.lookup(key)
        best["lookup"] = min(best["lookup"], since(start) * 1e6 / len(keys))
    print(f'{{"update": {best["update"]}, "lookup": {best["lookup"]}}}', flush=True)
    os._exit(0)


def _filled(path: str, kind: str, records: int) -> tuple[bpf2py.Object, Any, float]:
    import struct

    import bpf2py

    spec = bpf2py.ObjectSpec.from_file(path)
    spec.maps["ring"].max_entries = 64 << 20
    obj = bpf2py.load(spec)
    start = time.perf_counter()
    reader = bpf2py.RingReader(obj.maps["ring"]) if kind == "ring" else bpf2py.PerfReader(obj.maps["perf"], pages=4096)
    ready = since(start)
    if kind == "ring":
        obj.programs["fill_ring"].test_run(context=struct.pack("<I", records))
    else:
        obj.programs["fill_perf"].test_run(context=struct.pack("<12Q", records, *[0] * 11), cpu=0)
    return obj, reader, ready


def drain(path: str, kind: str, records: str) -> Numbers:
    """Records as batches, the first time in the process."""
    _obj, reader, ready = _filled(path, kind, int(records))
    start, count = time.perf_counter(), 0
    for batch in reader.batches(timeout=0):
        count += len(batch)
    took = since(start)
    assert count == int(records), count
    return {"mps": count / took / 1e3, "ready_ms": ready, "with_ready_mps": count / (took + ready) / 1e3}


def typed(path: str, kind: str, records: str) -> Numbers:
    """Records as typed events in a for loop, the first time in the process."""
    _obj, reader, _ready = _filled(path, kind, int(records))
    start, count = time.perf_counter(), 0
    for _event in reader.events(timeout=0):
        count += 1
    took = since(start)
    assert count == int(records), count
    return {"mps": count / took / 1e3}


def maps(count: str) -> Numbers:
    """Nanoseconds of single operations and of an element of whole maps; milliseconds of the first count()."""
    sys.path.append(f"{sys.path[0]}/..")

    import bpf2py
    from benchmarks.bench_maps import operations

    entries = int(count)
    found: Numbers = {}
    with bpf2py.Map.create(bpf2py.MapType.HASH, key="u32", value="u32", max_entries=entries) as counts:
        counts.update({key: key for key in range(entries)})
        start = time.perf_counter()
        assert counts.count() == entries
        found["count_ms"] = since(start)
        for name, run, _ in operations(counts, entries):
            best = float("inf")
            for _ in range(3 if entries <= 100_000 else 2):
                if entries > 100_000 and name != "m.to_numpy()":
                    break
                start = time.perf_counter()
                run()
                best = min(best, since(start))
            found[name] = best * 1e6 / entries
    return found


def warm_load(path: str) -> Numbers:
    """The second load of a process, and the best of five."""
    import bpf2py

    found = []
    for _ in range(6):
        start = time.perf_counter()
        with bpf2py.load(path):
            found.append(since(start))
    return {"ms": min(found[1:])}


if __name__ == "__main__":
    answer = globals()[sys.argv[1]](*sys.argv[2:])
    import json

    print(json.dumps(answer))
