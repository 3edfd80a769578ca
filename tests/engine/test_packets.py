"""Captures through packet programs: pcap and pcapng, verdicts, rewritten packets."""

from __future__ import annotations

import errno
import json
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bpf2py
from bpf2py.engine import Engine
from bpf2py.engine.trace.pcap import LINKTYPE_ETHERNET, LINKTYPE_RAW, PcapWriter, read_packets
from bpf2py.engine.trace.replay import replay
from bpf2py.errors import NotSupported, ObjectError

SOURCE = Path(__file__).parent / "packets.bpf.c"
TCP, UDP, ICMP = 6, 17, 1


def ip_packet(protocol: int, ttl: int = 64, size: int = 60) -> bytes:
    return struct.pack(">BBHHHBBHII", 0x45, 0, size, 1, 0, ttl, protocol, 0, 0x0A000001, 0x0A000002) + bytes(size - 20)


def frame(protocol: int, ttl: int = 64) -> bytes:
    return bytes(range(12)) + b"\x08\x00" + ip_packet(protocol, ttl)


@pytest.fixture(scope="module")
def code(compile_bpf: Callable[[str], bytes]) -> bytes:
    return compile_bpf(SOURCE.read_text())


@pytest.fixture
def obj(code: bytes) -> Iterator[Any]:
    with bpf2py.load(code, backend=Engine()) as loaded:
        yield loaded


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "some.pcap"
    with PcapWriter(path) as writer:
        for i in range(30):
            writer.write(frame((TCP, UDP, ICMP)[i % 3]), 1_700_000_000_000_000_000 + i)
    return path


def test_a_capture_is_read_as_it_was_written(capture: Path) -> None:
    packets = list(read_packets(capture))
    assert len(packets) == 30
    assert packets[4].data == frame(UDP)
    assert (packets[4].time_ns, packets[4].length, packets[4].linktype) == (
        1_700_000_000_000_000_004,
        74,
        LINKTYPE_ETHERNET,
    )


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("magic", "unit"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)])
def test_pcap_of_either_byte_order(tmp_path: Path, order: str, magic: int, unit: int) -> None:
    path = tmp_path / "x.pcap"
    data = frame(TCP)
    path.write_bytes(
        struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, 1)
        + struct.pack(order + "IIII", 5, 7, len(data), 99)
        + data
    )
    (packet,) = read_packets(path)
    assert packet == (data, 5_000_000_000 + 7 * unit, 99, 1)


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + length + body + length


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng(tmp_path: Path, order: str) -> None:
    path = tmp_path / "x.pcapng"
    data = frame(TCP)
    nanoseconds = struct.pack(order + "HHB3xHH", 9, 1, 9, 0, 0)
    path.write_bytes(
        block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))
        + block(order, 1, struct.pack(order + "HHI", 1, 0, 0))
        + block(order, 1, struct.pack(order + "HHI", 101, 0, 0) + nanoseconds)
        + block(order, 0x0BAD, b"what nobody knows")
        + block(order, 6, struct.pack(order + "IIIII", 0, 0, 8, len(data), len(data)) + data)
        + block(order, 6, struct.pack(order + "IIIII", 1, 1, 5, 20, 60) + data[14:34])
        + block(order, 3, struct.pack(order + "I", len(data)) + data)
    )
    first, second, third = read_packets(path)
    assert first == (data, 8000, len(data), 1)
    assert second == (data[14:34], (1 << 32) + 5, 60, LINKTYPE_RAW)
    assert third.data == data


@pytest.mark.parametrize(
    "content",
    [
        b"", b"abc", b"GIF89a" * 10, struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)[:20],
        struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + bytes(7),
        struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + struct.pack("<IIII", 0, 0, 100, 100) + bytes(99),
        struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + struct.pack("<IIII", 0, 0, 1 << 31, 100),
        struct.pack("<II", 0x0A0D0D0A, 28) + bytes(20), struct.pack("<IIII", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1) + bytes(3),
    ],
)  # fmt: skip
def test_damaged_captures(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.pcap"
    path.write_bytes(content)
    with pytest.raises(ObjectError):
        list(read_packets(path))


@pytest.mark.parametrize(
    ("program", "verdicts"),
    [
        ("filter", {"TX": 20, "DROP": 10}),
        ("police", {"OK": 20, "SHOT": 10}),
        ("snap", {"KEEP": 10, "DROP": 20}),
    ],
)
def test_verdicts(obj: Any, capture: Path, program: str, verdicts: dict[str, int]) -> None:
    results = list(replay(obj.backend, obj.programs[program], read_packets(capture)))
    assert Counter(result.verdict for result in results) == verdicts
    assert dict(obj.maps["protocols"].items()) == {TCP: 10, UDP: 10, ICMP: 10}
    assert obj.maps["newest"][0] == 1_700_000_000_000_000_029  # programs see the capture's time
    first = results[0]
    assert first.passed
    if program == "filter":
        assert first.result.data == frame(TCP, 63)
    elif program == "snap":
        assert first.result.data == frame(TCP)[:40]
    else:
        assert first.result.data == frame(TCP)


def test_packets_without_a_link_layer(obj: Any, tmp_path: Path) -> None:
    path = tmp_path / "raw.pcap"
    with PcapWriter(path, LINKTYPE_RAW) as writer:
        writer.write(ip_packet(TCP))
    (result,) = replay(obj.backend, obj.programs["filter"], read_packets(path))
    assert (result.verdict, result.result.data) == ("TX", ip_packet(TCP, 63))


def test_what_cannot_be_replayed(obj: Any, tmp_path: Path, compile_bpf: Callable[[str], bytes]) -> None:
    path = tmp_path / "wlan.pcap"
    with PcapWriter(path, 105) as writer:
        writer.write(bytes(60))
    with pytest.raises(NotSupported, match="link type 105"):
        list(replay(obj.backend, obj.programs["filter"], read_packets(path)))
    source = '#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\nSEC("raw_tp/x") int p(void *c) { return 0; }'
    with (
        bpf2py.load(compile_bpf(source), backend=(engine := Engine())) as other,
        pytest.raises(NotSupported, match="see no packets"),
    ):
        list(replay(engine, other.programs["p"], read_packets(path)))


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "bpf2py", "packets", *arguments], capture_output=True, text=True)


def test_the_command(capture: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.pcap"
    done = command(str(SOURCE), str(capture), "--program", "filter", "-o", str(output))
    assert done.returncode == 0, done.stderr
    assert "filter: 30 packets, 20 passed, 20 of them changed" in done.stdout
    assert [packet.data for packet in read_packets(output)] == [frame(TCP, 63), frame(ICMP, 63)] * 10
    as_json = command(str(SOURCE), str(capture), "--program", "police", "--json", "--limit", "6")
    report = json.loads(as_json.stdout)
    assert (report["packets"], report["passed"], report["verdicts"]) == (6, 4, {"OK": 4, "SHOT": 2})


def test_the_commands_errors(capture: Path, tmp_path: Path) -> None:
    several = command(str(SOURCE), str(capture))
    assert (several.returncode, several.stdout) == (1, "")
    assert "programs that see packets: filter, police, snap; say which with --program" in several.stderr
    missing = command(str(SOURCE), str(tmp_path / "none.pcap"), "--program", "filter")
    assert missing.returncode == 1
    assert "No such file" in missing.stderr
    unknown = command(str(SOURCE), str(capture), "--program", "filtre")
    assert unknown.returncode == 1
    assert "filter" in unknown.stderr
    assert "Traceback" not in unknown.stderr


STEERED = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_XSKMAP); __uint(max_entries, 4); __type(key, __u32); __type(value, __u32); }
    sockets SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_DEVMAP); __uint(max_entries, 4); __type(key, __u32); __type(value, __u32); }
    devices SEC(".maps");
__u32 queue = 99, device;
SEC("xdp") int to_socket(struct xdp_md *ctx)
{
    __u32 index = ctx->rx_queue_index;
    struct bpf_xdp_sock *found = bpf_map_lookup_elem(&sockets, &index);
    if (!found)
        return XDP_PASS;
    queue = found->queue_id;
    return bpf_redirect_map(&sockets, index, 0);
}
SEC("xdp") int to_device(struct xdp_md *ctx)
{
    __u32 index = 2;
    struct bpf_devmap_val *found = bpf_map_lookup_elem(&devices, &index);
    device = found ? found->ifindex : 0;
    return bpf_redirect_map(&devices, index, XDP_DROP);
}
char LICENSE[] SEC("license") = "GPL";
"""
XDP_DROP, XDP_PASS, XDP_REDIRECT = 1, 2, 4


def test_packets_are_steered_to_sockets_and_devices(compile_bpf: Callable[[str], bytes]) -> None:
    """As programs of AF_XDP do: a queue's packets go to its socket, those of other queues on to the stack."""
    engine = Engine()
    one, (wrong, other) = engine.xdp_socket(), socket.socketpair()
    with wrong, other, bpf2py.load(compile_bpf(STEERED), backend=engine) as obj:
        sockets, devices, to_device = obj.maps["sockets"], obj.maps["devices"], obj.programs["to_device"]

        def verdict(queue: int) -> int:
            return obj.programs["to_socket"].run(data=frame(UDP), rx_queue_index=queue).return_value

        assert verdict(3) == XDP_PASS
        sockets[3] = one
        assert (verdict(3), obj.variables["queue"].value) == (XDP_REDIRECT, 3)
        assert verdict(2) == XDP_PASS
        del sockets[3]
        assert verdict(3) == XDP_PASS
        for value, error in ((1 << 30, errno.EBADF), (wrong, errno.EOPNOTSUPP)):
            with pytest.raises(bpf2py.BpfOSError) as caught:
                sockets[0] = value
            assert caught.value.errno == error
        assert to_device.run(data=frame(UDP)).return_value == XDP_DROP
        devices[2] = "lo"
        assert to_device.run(data=frame(UDP)).return_value == XDP_REDIRECT
        assert obj.variables["device"].value == socket.if_nametoindex("lo")
