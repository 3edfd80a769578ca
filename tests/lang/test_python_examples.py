"""Each program of examples/python: on an engine, and on the kernel where it runs here."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

import bpf2py
from bpf2py.engine import Engine, Task

EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "python"
TESTED = {
    "connect", "execs", "firewall", "latency", "lsm", "map_of_maps", "offcpu", "opens", "tail_calls", "tasks", "tcp_states",
    "timer", "usdt", "user_ring",
}  # fmt: skip


def load(name: str, backend: Any = None) -> Any:
    return bpf2py.load(EXAMPLES / f"{name}.py", backend)


def test_every_example_is_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == TESTED


def packet(source: str = "10.1.2.3", protocol: int = 17, port: int = 9) -> bytes:
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 28, 0, 0, 64, protocol, 0, socket.inet_aton(source), bytes(4))
    return bytes(12) + b"\x08\x00" + ip + struct.pack(">HHHH", 1, port, 8, 0) + bytes(32)


def first(ring: Any) -> Any:
    """The first record of a ring buffer."""
    with bpf2py.RingReader(ring) as reader:
        return next(iter(reader))


def text_of(link: Any) -> str:
    """What an iterator writes."""
    with link.open() as file:
        found: bytes = file.read()
    return found.decode()


# -- on an engine ---------------------------------------------------------------------------------------------------


def test_opens_on_the_engine(bpf2py: Any) -> None:
    obj = bpf2py.load(EXAMPLES / "opens.py")
    bpf2py.task = Task(42, comm="editor")
    bpf2py.fire("tracepoint/syscalls/sys_enter_openat", args=[0, "/etc/hosts"])
    event = first(obj.maps["events"])
    assert (event.pid, event.comm, event.path) == (42, "editor", "/etc/hosts")
    assert dict(obj.maps["counts"].items()) == {42: 1}


def test_opens_of_one_process_only() -> None:
    spec = bpf2py.ObjectSpec.from_bytes(bpf2py.compile(EXAMPLES / "opens.py"))
    spec.variables["only"].value = 7
    engine = Engine()
    with bpf2py.load(spec, engine) as obj:
        obj.attach()
        for pid in (7, 8):
            engine.task = Task(pid)
            engine.fire("tracepoint/syscalls/sys_enter_openat", args=[0, "/x"])
        assert dict(obj.maps["counts"].items()) == {7: 1}


def test_execs_on_the_engine(bpf2py: Any) -> None:
    obj = bpf2py.load(EXAMPLES / "execs.py")
    for pid in (1, 2):
        bpf2py.task = Task(pid, comm="make")
        bpf2py.fire("tracepoint/sched/sched_process_exec")
    found = obj.maps["commands"][{"comm": "make"}]
    assert (found["count"], found["last_pid"]) == (2, 2)


def test_latency_on_the_engine(bpf2py: Any) -> None:
    obj = bpf2py.load(EXAMPLES / "latency.py")
    for microseconds in (1, 5, 1000, 1 << 40):
        bpf2py.fire("raw_tp/sys_enter", 0, 1)
        bpf2py.advance(ns=microseconds * 1000)
        bpf2py.fire("raw_tp/sys_exit", 0, 0)
    slots = {index: count for index, count in obj.maps["slots"].items() if count}
    assert slots == {0: 1, 2: 1, 9: 1, 26: 1}


def test_tcp_states_on_the_engine(bpf2py: Any) -> None:
    obj = bpf2py.load(EXAMPLES / "tcp_states.py")
    address = struct.unpack("<I", socket.inet_aton("192.0.2.1"))[0]
    sock = {"__type__": "sock", "__sk_common": {"skc_num": 5000, "skc_dport": socket.htons(443), "skc_daddr": address}}
    bpf2py.fire("tp_btf/inet_sock_set_state", sock, 2, 1)
    bpf2py.fire("tp_btf/inet_sock_set_state", sock, 1, 7)
    assert obj.maps["entered"][1] == obj.maps["entered"][7] == 1
    record = first(obj.maps["closed"])
    assert (record.local_port, record.remote_port, record.remote_ip) == (5000, 443, address)


def firewall(backend: Any) -> list[int]:
    with load("firewall", backend) as obj:
        network = struct.unpack("<I", socket.inet_aton("10.1.0.0"))[0]
        obj.maps["blocked"][{"prefixlen": 16, "address": network}] = 0
        run = obj.programs["firewall"].test_run
        results = [run(data).return_value for data in (packet(), packet("10.2.0.1"), packet()[:20], bytes(64))]
        assert [count for _, count in obj.maps["blocked"].items()] == [1]
        assert obj.maps["passed"][0].sum() == 1
        return results


def tail_calls(backend: Any) -> tuple[list[int], list[int]]:
    with load("tail_calls", backend) as obj:
        run = obj.programs["dispatch"].test_run
        results = [
            run(data).return_value for data in (packet(), packet(port=10), packet(protocol=6), packet(protocol=1))
        ]
        return results, [count for _, count in obj.maps["seen"].items()]


def user_ring(backend: Any, trigger: Any) -> None:
    with load("user_ring", backend) as obj:
        ring = obj.maps["commands"]
        for index, amount in ((1, 5), (1, -2), (9, 1)):
            ring.push({"index": index, "amount": amount})
        trigger(obj)
        assert obj.maps["numbers"][1] == 3
        assert obj.variables["wrong"].value == 1


def test_packets_on_the_engine() -> None:
    assert firewall("engine") == [1, 2, 2, 2]
    assert tail_calls("engine") == ([1, 2, 2, 2], [4, 2, 1])


def test_timer_on_the_engine(bpf2py: Any) -> None:
    obj = bpf2py.load(EXAMPLES / "timer.py", attach=False)
    assert bpf2py.run("start").return_value == 0
    bpf2py.advance(seconds=0.0105)
    assert obj.maps["clocks"][0].ticks == 10
    bpf2py.run("stop")
    bpf2py.advance(seconds=1)
    assert obj.maps["clocks"][0].ticks == 11


def test_map_of_maps_on_the_engine(bpf2py: Any) -> None:
    obj = bpf2py.load(EXAMPLES / "map_of_maps.py")
    bpf2py.task = Task(5, uid=0)
    for number in (1, 1, 2):
        bpf2py.fire("raw_tp/sys_enter", 0, number)
    bpf2py.task = Task(5, uid=1000)
    bpf2py.fire("raw_tp/sys_enter", 0, 3)
    assert dict(obj.maps["root_calls"].items()) == {1: 2, 2: 1}


def test_lsm_on_the_engine(bpf2py: Any) -> None:
    obj = bpf2py.load(EXAMPLES / "lsm.py")
    obj.variables["secret"].value = {"device": 8, "inode": 77}
    file = {"__type__": "file", "f_inode": {"i_ino": 77, "i_sb": {"s_dev": 8}}}
    other = {"__type__": "file", "f_inode": {"i_ino": 78, "i_sb": {"s_dev": 8}}}
    assert bpf2py.fire("lsm/file_open", file, 0) == [0xFFFFFFFF]
    assert bpf2py.fire("lsm/file_open", other, 0) == [0]
    assert obj.variables["refused"].value == 1


def test_tasks_on_the_engine(bpf2py: Any) -> None:
    bpf2py.task = Task(123, comm="shell")
    obj = bpf2py.load(EXAMPLES / "tasks.py", attach=False)
    with obj.programs["dump"].attach() as link:
        text = text_of(link)
    assert "pid    tgid comm" in text
    assert "shell" in text


def test_usdt_on_the_engine(bpf2py: Any) -> None:
    obj = bpf2py.load(EXAMPLES / "usdt.py", attach=False)
    assert list(obj.programs) == ["on_probe"]


def test_connect_on_the_engine(bpf2py: Any) -> None:
    obj = bpf2py.load(EXAMPLES / "connect.py", attach=False)
    one, two = (struct.unpack("<I", socket.inet_aton(text))[0] for text in ("192.0.2.1", "127.0.0.1"))
    obj.maps["redirects"][{"address": one, "port": socket.htons(80)}] = {"address": two, "port": socket.htons(8080)}
    result = bpf2py.run("on_connect", user_ip4=one, user_port=socket.htons(80))
    assert result.return_value == 1
    assert obj.variables["redirected"].value == 1


def test_offcpu_on_the_engine(bpf2py: Any) -> None:
    obj = bpf2py.load(EXAMPLES / "offcpu.py")
    assert set(obj.programs) == {"on_wakeup", "on_switch"}


def test_user_ring_on_the_engine() -> None:
    user_ring("engine", lambda obj: obj.programs["drain"].run())


# -- on the kernel ----------------------------------------------------------------------------------------------------


@pytest.mark.kernel
def test_packets_on_the_kernel() -> None:
    assert firewall("kernel") == [1, 2, 2, 2]
    assert tail_calls("kernel") == ([1, 2, 2, 2], [4, 2, 1])


@pytest.mark.kernel
def test_opens_and_execs_on_the_kernel(tracefs: Path) -> None:
    with load("opens") as obj, bpf2py.RingReader(obj.maps["events"]) as reader:
        obj.attach()
        with open("/etc/hostname", "rb"):
            pass
        event = next(each for each in reader if each.path == "/etc/hostname" and each.pid == os.getpid())
        assert event.comm
        assert obj.maps["counts"][os.getpid()] >= 1
    with load("execs") as obj:
        obj.attach()
        subprocess.run(["/bin/true"], check=True)
        assert obj.maps["commands"][{"comm": "true"}]["count"] >= 1


@pytest.mark.kernel
def test_system_calls_on_the_kernel(tracefs: Path) -> None:
    with load("latency") as obj:
        obj.attach()
        os.getppid()
        assert sum(count for _, count in obj.maps["slots"].items()) > 0
    with load("map_of_maps") as obj:
        obj.attach()
        os.getpgid(0)
        assert os.getuid() != 0 or sum(count for _, count in obj.maps["root_calls"].items()) > 0


@pytest.mark.kernel
def test_tcp_states_on_the_kernel(tracefs: Path) -> None:
    with load("tcp_states") as obj, bpf2py.RingReader(obj.maps["closed"]) as reader:
        obj.attach()
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            socket.create_connection(("127.0.0.1", port)).close()
            server.accept()[0].close()
        assert obj.maps["entered"][7] > 0
        assert next(each for each in reader if port in (each.local_port, each.remote_port))


@pytest.mark.kernel
def test_tasks_on_the_kernel() -> None:
    with load("tasks") as obj, obj.programs["dump"].attach() as link:
        lines = text_of(link).splitlines()
    assert lines[0].split() == ["pid", "tgid", "comm"]
    assert any(line.split()[1] == str(os.getpid()) for line in lines[1:])


@pytest.mark.kernel
def test_user_ring_on_the_kernel(tracefs: Path) -> None:
    def trigger(obj: Any) -> None:
        obj.attach()
        os.getpgid(0)

    user_ring("kernel", trigger)


@pytest.mark.kernel
def test_timer_and_offcpu_load_on_the_kernel() -> None:
    with load("timer") as obj:
        assert obj.programs["start"].test_run().return_value == 0
        assert obj.programs["stop"].test_run().return_value == 0
    with load("offcpu") as obj:
        obj.attach()
        subprocess.run(["/bin/true"], check=True)
        assert obj.variables["longest_ns"].value > 0


@pytest.mark.kprobe
def test_lsm_on_the_kernel(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("x")
    state = os.stat(path)
    major, minor = os.major(state.st_dev), os.minor(state.st_dev)
    with load("lsm") as obj:
        obj.variables["secret"].value = {"device": major << 20 | minor, "inode": state.st_ino}
        try:
            obj.attach()
        except bpf2py.errors.BpfError as error:
            pytest.skip(f"this kernel runs no BPF security modules: {error}")
        with pytest.raises(PermissionError):
            path.read_text()
        assert obj.variables["refused"].value == 1
