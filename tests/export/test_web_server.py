"""The server of ``top --web``: who is refused, what many maps cost, and that nothing is left of those who went."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import bpf2py
from bpf2py import Map, MapType
from bpf2py.errors import BpfError

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
from bpf2py.export.web.attached import attach_points
from bpf2py.export.web.opened_map import LARGEST_COMPARED, MOST_ROWS, OpenedMap
from bpf2py.export.web.ring_tail import RingTail
from bpf2py.export.web.server import FILES, MOST_STREAMS, PageServer
from bpf2py.export.web.snapshot import Machine

pytestmark = pytest.mark.kernel
TOKEN = "secret-token"
# Types that need a type, an inner map or a fixed size beside sizes of key and value.
NEED_MORE = (
    "UNSPEC STRUCT_OPS ARRAY_OF_MAPS HASH_OF_MAPS CGROUP_STORAGE PERCPU_CGROUP_STORAGE SK_STORAGE INODE_STORAGE TASK_STORAGE "
    "CGRP_STORAGE ARENA INSN_ARRAY RHASH"
).split()
OPEN: list[tuple[http.client.HTTPConnection, http.client.HTTPResponse]] = []
GOOD = {"Authorization": f"Bearer {TOKEN}"}


@contextmanager
def serving(interval: float = 0.05) -> Iterator[PageServer]:
    server = PageServer("127.0.0.1", 0, TOKEN, interval)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def server() -> Iterator[PageServer]:
    with serving() as server:
        yield server


def ask(
    server: PageServer, path: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    for name, value in ({"Host": f"127.0.0.1:{server.port}"} | (headers or {})).items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    OPEN.append((connection, answer))
    return answer


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    hang_up()


def hang_up() -> None:
    for each in OPEN:
        for part in reversed(each):
            part.close()
    OPEN.clear()


def event(answer: http.client.HTTPResponse) -> Any:
    """The next event of a stream; None at its end."""
    while line := answer.readline():
        if line.startswith(b"data: "):
            return json.loads(line[6:])
    return None


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()


def maps_open() -> int:
    """Descriptors of BPF objects this process holds."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += "bpf" in os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return found


@pytest.mark.parametrize("path", FILES)
def test_files_are_for_anybody_here_and_say_what_they_may_load(server: PageServer, path: str) -> None:
    answer = ask(server, path)
    assert answer.status == 200
    assert answer.read()
    policy = answer.getheader("Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert answer.getheader("X-Content-Type-Options") == "nosniff"
    assert answer.getheader("Cache-Control") == "no-store"


@pytest.mark.parametrize("path", ["/data/machine", "/data/attached", "/data/map/1"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": f"Bearer {TOKEN}x"}, 401),
        ({"Authorization": f"bearer {TOKEN}"}, 401),
        ({"Authorization": "Bearer \xff"}, 401),
        (GOOD | {"Host": "evil.example"}, 421),
        (GOOD | {"Host": "evil.example:PORT"}, 421),
        (GOOD | {"Host": "127.0.0.1.evil.example:PORT"}, 421),
        (GOOD | {"Host": "127.0.0.1:1"}, 421),
        (GOOD | {"Host": ""}, 421),
        (GOOD | {"Origin": "http://evil.example"}, 403),
        (GOOD | {"Origin": "null"}, 403),
        (GOOD | {"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_refused(server: PageServer, path: str, headers: dict[str, str], status: int) -> None:
    sent = {name: value.replace("PORT", str(server.port)) for name, value in headers.items()}
    answer = ask(server, path, sent)
    assert answer.status == status
    assert b"data:" not in answer.read()


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_only_get(server: PageServer, method: str) -> None:
    assert ask(server, "/data/machine", GOOD, method).status == 405


@pytest.mark.parametrize("path", ["/data/map/x", "/data/map/-1", "/data/map/99999999999", "/data/", "/../page.js"])
def test_what_is_not_there(server: PageServer, path: str) -> None:
    assert ask(server, path, GOOD).status == 404


def test_with_the_token(server: PageServer) -> None:
    with Map.create(MapType.HASH, key="u32", value="u64", max_entries=8, name="web_known") as known:
        known[1] = (1 << 64) - 1
        known[2] = 5
        answer = ask(server, "/data/machine", GOOD | {"Host": f"localhost:{server.port}"})
        assert answer.status == 200
        sample = event(answer)
        assert sample["about"]["cpus"] == os.cpu_count()
        (row,) = [each for each in sample["maps"] if each["id"] == known.info.id]
        assert (row["name"], row["elements"], row["pressure"]) == ("web_known", 2, 0.25)
        opened = event(ask(server, f"/data/map/{known.info.id}", GOOD))
        # Without types there are bytes.
        assert sorted(each["cells"] for each in opened["rows"]) == [
            ["01 00 00 00", "ff ff ff ff ff ff ff ff"],
            ["02 00 00 00", "05 00 00 00 00 00 00 00"],
        ]
    assert "error" in event(ask(server, "/data/map/4294967295", GOOD))


def test_streams_are_bounded_and_end_with_the_server() -> None:
    with serving() as server:
        open_ones = [ask(server, "/data/machine", GOOD) for _ in range(MOST_STREAMS)]
        assert all(event(each) for each in open_ones)
        assert ask(server, "/data/machine", GOOD).status == 503
    # They are told, not cut off.
    assert all(each.read().endswith(b"event: end\ndata: {}\n\n") for each in open_ones)


def test_who_goes_leaves_nothing() -> None:
    with Map.create(MapType.LRU_HASH, key="u32", value="u32", max_entries=8) as known:
        known[1] = 1
        with serving() as server:
            before = maps_open()
            streams = [ask(server, f"/data/map/{known.info.id}", GOOD) for _ in range(5)]
            assert all(event(each)["lru"]["evicted"] == 0 for each in streams)
            assert maps_open() > before
            hang_up()
            eventually(lambda: maps_open() == before and server._streams == 0)
        assert maps_open() <= before


@pytest.mark.kprobe
@pytest.mark.parametrize(
    ("kind", "size"), [(MapType.LRU_HASH, 64), (MapType.LRU_PERCPU_HASH, 64), (MapType.LRU_HASH, LARGEST_COMPARED + 1)]
)
def test_evictions_are_told_exactly(kind: MapType, size: int) -> None:
    """Where the kernel's functions can be traced: also of maps whose keys are too many to be compared."""
    filling = 200
    with (
        Map.create(kind, key="u32", value="u32", max_entries=size, name="web_lru") as known,
        Map.create(MapType.LRU_HASH, key="u32", value="u32", max_entries=64) as other,
        serving() as server,
    ):
        value: Any = [0] * known.possible_cpus if kind == MapType.LRU_PERCPU_HASH else 0
        opened = ask(server, f"/data/map/{known.info.id}", GOOD)
        lru = event(opened)["lru"]
        assert (lru["how"], lru["evicted"], lru["per_second"]) == ("exactly", 0, 0)
        for key in range(filling):
            known[key] = value
            other[key] = 0
        left = list(known)
        for key in left[:5]:
            del known[key]  # deleted, not evicted
        evicted = filling - len(left)
        assert (evicted > 0) == (size == 64)
        seen, fastest = event(opened), 0.0
        while seen["lru"]["evicted"] < evicted or seen["elements"] > len(left) - 5:
            fastest = max(fastest, seen["lru"]["per_second"])
            seen = event(opened)
        assert (seen["lru"]["evicted"], seen["elements"]) == (evicted, len(left) - 5)
        assert (max(fastest, seen["lru"]["per_second"]) > 0) == (evicted > 0)
        seen = event(opened)
        assert (seen["lru"]["evicted"], seen["lru"]["per_second"]) == (evicted, 0)


def test_keys_of_a_large_lru_map_are_not_compared() -> None:
    with Map.create(MapType.LRU_HASH, key="u32", value="u32", max_entries=LARGEST_COMPARED + 1) as known:
        known[1] = 1
        with OpenedMap(known.info.id) as opened:
            seen = opened.read()
            assert seen["elements"] == 1
            assert seen["lru"] is None or seen["lru"]["how"] == "exactly"


def test_a_mistake_of_ours_is_not_silent(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def wrong(_: OpenedMap) -> dict[str, Any]:
        raise TypeError("a mistake")

    monkeypatch.setattr(OpenedMap, "read", wrong)
    with Map.create(MapType.HASH, key="u32", value="u32", max_entries=8) as known:
        with serving() as server:
            assert event(ask(server, f"/data/map/{known.info.id}", GOOD)) is None
        assert "TypeError: a mistake" in capfd.readouterr().err


def test_who_goes_while_a_map_is_opened_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    opening, gone = threading.Event(), threading.Event()
    whole = OpenedMap._facts

    def slow(self: OpenedMap) -> dict[str, Any]:
        opening.set()
        gone.wait(20)
        return whole(self)

    monkeypatch.setattr(OpenedMap, "_facts", slow)
    with Map.create(MapType.HASH, key="u32", value="u32", max_entries=8) as known, serving() as server:
        before = maps_open()
        ask(server, f"/data/map/{known.info.id}", GOOD)
        assert opening.wait(20)
        assert maps_open() > before
        hang_up()
        gone.set()
        eventually(lambda: maps_open() == before and server._streams == 0)


@pytest.mark.parametrize("kind", [kind.name for kind in MapType if kind.name not in NEED_MORE])
def test_maps_of_every_type_can_be_opened(kind: str) -> None:
    sizes: dict[str, Any] = {"key": "u32", "value": "u32", "max_entries": 4}
    if kind in ("RINGBUF", "USER_RINGBUF"):
        sizes = {"max_entries": 4096}
    elif kind in ("QUEUE", "STACK", "BLOOM_FILTER"):
        sizes = {"value": "u32", "max_entries": 4}
    elif kind == "LPM_TRIE":
        sizes = {"key": 8, "value": "u32", "max_entries": 4, "flags": 1}
    elif kind == "STACK_TRACE":
        sizes = {"key": "u32", "value": 64, "max_entries": 4}
    with Map.create(MapType[kind], **sizes) as made, OpenedMap(made.info.id) as opened:
        found = json.loads(json.dumps(opened.read()))
    assert found["id"]
    assert {"rows", "ring", "unreadable"} & set(found)


def test_many_maps_are_counted_in_turn() -> None:
    """A reading takes a bounded time for counting, and after some of them every map was counted."""
    maps = [Map.create(MapType.HASH, key="u32", value="u64", max_entries=64, name="web_many") for _ in range(600)]
    try:
        for each in maps:
            each[1] = 1
        ids = {each.info.id for each in maps}
        machine = Machine(most=2000)
        for _ in range(100):
            counted = {row.id: row.elements for row in machine.read().maps if row.id in ids}
            if None not in counted.values():
                break
        assert counted == dict.fromkeys(ids, 1)
        assert len(Machine(most=10).read().maps) == 10
    finally:
        for each in maps:
            each.close()


def test_what_is_shown_of_a_large_map_is_bounded() -> None:
    with Map.create(MapType.HASH, key="u32", value="u64", max_entries=60_000) as large:
        large.update({key: key for key in range(55_000)})
        with OpenedMap(large.info.id) as opened:
            found = opened.read()
        assert len(found["rows"]) == MOST_ROWS
        assert (found["read"], found["elements"], found["hidden"]) == (50_000, 55_000, 50_000 - MOST_ROWS)


def test_a_tail_takes_nothing_and_says_what_it_missed() -> None:
    source = """
    #include <linux/bpf.h>
    #include <bpf/bpf_helpers.h>
    char LICENSE[] SEC("license") = "GPL";
    __u64 next = 0;
    struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } tailed SEC(".maps");
    SEC("xdp") int produce(struct xdp_md *ctx)
    {
        __u64 *record = bpf_ringbuf_reserve(&tailed, 24, 0);

        if (record) {
            record[0] = next++;
            record[1] = record[2] = 0;
            if (record[0] % 5 == 4)
                bpf_ringbuf_discard(record, 0);
            else
                bpf_ringbuf_submit(record, 0);
        }
        return 0;
    }
    """
    with (
        bpf2py.load(bpf2py.compile(source), "kernel") as obj,
        RingTail(obj.maps["tailed"]) as tail,
        bpf2py.RingReader(obj.maps["tailed"], type=24) as reader,
    ):

        def produced(times: int) -> list[int]:
            obj.programs["produce"].test_run(bytes(64), repeat=times)
            return [int.from_bytes(record[:8], "little") for record in tail.read().records]

        assert produced(10) == [0, 1, 2, 3, 5, 6, 7, 8]
        assert sum(len(batch) for batch in reader.batches(0)) == 8
        assert produced(5) == [10, 11, 12, 13]
        assert sum(len(batch) for batch in reader.batches(0)) == 4
        # More than the ring holds, while nobody looks: the consumer had all of it, the tail says that it had not.
        for _ in range(5):
            obj.programs["produce"].test_run(bytes(64), repeat=100)
            assert sum(len(batch) for batch in reader.batches(0)) == 80
        seen = tail.read()
        assert (seen.records, seen.arrived, seen.missed, seen.written) == ([], 0, 500 * 32, 500 * 32)
        assert produced(4) == [515, 516, 517, 518]


def test_a_listening_address_that_is_taken(server: PageServer) -> None:
    with pytest.raises(BpfError, match=f"cannot serve on 127.0.0.1:{server.port}"):
        PageServer("127.0.0.1", server.port, TOKEN)


def test_attach_points_have_no_duplicates() -> None:
    points = attach_points()["points"]
    assert len({(each["kind"], each["where"], each["hook"]) for each in points}) == len(points)


def run(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bpf2py", "top", "--web", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_signal_ends_it_while_somebody_looks(number: signal.Signals, status: int) -> None:
    with run() as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        host, _, token = address.partition("/#token=")
        port = int(host.rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/data/machine", headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        OPEN.append((connection, answer))
        assert event(answer)["programs"] is not None
        # Run statistics are enabled by it alone, for as long as it runs.
        enabled = [os.readlink(f"/proc/{process.pid}/fd/{name}") for name in os.listdir(f"/proc/{process.pid}/fd")]
        assert any("bpf-stats" in each for each in enabled)
        process.send_signal(number)
        while event(answer) is not None:
            pass
        assert process.wait(20) == status
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize("listen", ["8080", ":8080", "127.0.0.1:x", "127.0.0.1:99999", "no.such.host.invalid:0"])
def test_an_address_that_is_none(listen: str) -> None:
    with run("--listen", listen) as process:
        assert process.wait(20) == 1
        assert process.stderr is not None
        text = process.stderr.read()
    assert listen in text
    assert "Traceback" not in text


def test_without_the_extra_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['uvicorn'] = None; from bpf2py.cli import main; main(['top', '--web'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "bpf2py: uvicorn is not installed: pip install 'bpf2py[web]'\n"


@pytest.mark.parametrize("option", [["--json"], ["--count", "1"]])
def test_what_does_not_go_together(option: list[str]) -> None:
    with run(*option) as process:
        assert process.wait(20) == 1
        assert process.stderr is not None
        assert "--web excludes" in process.stderr.read()


def test_it_warns_where_others_can_reach_it() -> None:
    with run("--listen", "0.0.0.0:0") as process:
        assert process.stderr is not None
        assert "can be reached from elsewhere" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
