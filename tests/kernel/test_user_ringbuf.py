from __future__ import annotations

import errno
import mmap
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import bpf2py
from bpf2py import Map, MapType

pytestmark = [pytest.mark.kernel, pytest.mark.since("6.1")]

SOURCE = """
struct my_command { __u32 op; __s64 amount; };
struct {
    __uint(type, BPF_MAP_TYPE_USER_RINGBUF);
    __uint(max_entries, 4096);
    __type(value, struct my_command);
} commands SEC(".maps");
long drained, total, sizes;
static long take(struct bpf_dynptr *record, void *ctx)
{
    struct my_command command = {};
    __u8 first = 0;
    if (bpf_dynptr_read(&command, sizeof(command), record, 0, 0) == 0)
        total += command.op * command.amount;
    else if (bpf_dynptr_read(&first, 1, record, 0, 0) == 0)
        sizes += first;
    return 0;
}
SEC("raw_tp/sched_switch")
int use(void *ctx)
{
    drained = bpf_user_ringbuf_drain(&commands, take, 0, 0);
    return 0;
}
"""


@pytest.fixture
def obj(build: Callable[[str], bpf2py.ObjectSpec]) -> Iterator[bpf2py.Object]:
    with bpf2py.load(build(SOURCE)) as loaded:
        yield loaded


def drain(obj: bpf2py.Object) -> int:
    obj.programs["use"].test_run()
    drained: int = obj.variables["drained"].value
    return drained


def test_commands_reach_the_program(obj: bpf2py.Object) -> None:
    commands = obj.maps["commands"]
    commands.push({"op": 1, "amount": -5})
    commands.push((2, 100))
    assert commands.pending() == 2 * 24
    assert drain(obj) == 2
    assert obj.variables["total"].value == 195
    assert commands.pending() == 0
    assert drain(obj) == 0


def test_records_of_any_length(obj: bpf2py.Object) -> None:
    commands = obj.maps["commands"]
    for length in (1, 7, 8, 9):
        commands.push(bytes([length]) * length)
    assert drain(obj) == 4
    assert obj.variables["sizes"].value == 25


def test_around_the_end_many_times(obj: bpf2py.Object, scale: Callable[[int], int]) -> None:
    commands = obj.maps["commands"]
    rounds = scale(2000)
    for number in range(rounds):
        commands.push({"op": 1, "amount": number})
        commands.push(b"\0" * (number % 7 + 1))
        commands.push({"op": 1, "amount": 1})
        assert drain(obj) == 3
    assert obj.variables["total"].value == rounds * (rounds - 1) // 2 + rounds


def test_a_full_ring(obj: bpf2py.Object, refused: Callable[..., Any]) -> None:
    commands = obj.maps["commands"]
    pushed = 0
    with refused(bpf2py.MapFull, errno.E2BIG, "map commands: push: no room for 16 bytes", "ring of 4096 bytes"):
        while True:
            commands.push((1, 1))
            pushed += 1
    assert pushed == 4096 // 24
    assert drain(obj) == pushed
    commands.push((1, 1))
    with refused(bpf2py.MapFull, errno.E2BIG):
        commands.push(bytes(4096))


def test_several_threads(obj: bpf2py.Object) -> None:
    commands = obj.maps["commands"]

    def push() -> None:
        for _ in range(40):
            commands.push((1, 1))

    threads = [threading.Thread(target=push) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert drain(obj) == 160
    assert obj.variables["total"].value == 160


def test_wrong_values_and_closed(obj: bpf2py.Object, refused: Callable[..., Any]) -> None:
    commands = obj.maps["commands"]
    with refused(bpf2py.EncodeError, None, "map commands: push: .op"):
        commands.push({"op": -1})
    assert commands.size == 4096
    commands.push((1, 1))
    commands.close()
    with refused(bpf2py.ClosedError, None, "map commands: the map is closed"):
        commands.push((1, 1))


def test_created_by_hand(assert_no_leaks: Callable[[], Any]) -> None:
    with assert_no_leaks(), Map.create(MapType.USER_RINGBUF, max_entries=mmap.PAGESIZE, name="made") as made:
        made.push(b"abc")
        assert made.pending() == 16
