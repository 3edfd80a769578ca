"""Listing what the kernel has while others make and close it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import bpf2py
from bpf2py.kernel import inspect, objects
from bpf2py.uapi.commands import Command
from bpf2py.uapi.errno import EAGAIN

pytestmark = pytest.mark.kernel
SOURCE = 'SEC("raw_tp/sched_process_exit") int nothing(void *ctx) { return 0; }'


def test_links_that_come_and_go(build: Callable[[str], bpf2py.ObjectSpec], scale: Callable[[int], int]) -> None:
    stop, errors = threading.Event(), []

    def come_and_go() -> None:
        try:
            with bpf2py.load(build(SOURCE)) as obj:
                while not stop.is_set():
                    obj.programs["nothing"].attach().close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=come_and_go) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(scale(300)):
            list(inspect.links())
            list(inspect.programs())
            list(inspect.maps())
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []


def test_a_link_that_is_not_complete_yet_is_left_out(
    build: Callable[[str], bpf2py.ObjectSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its id is there before it is; the kernel says EAGAIN for some microseconds, which cannot be waited for."""
    with bpf2py.load(build(SOURCE)) as obj:
        first, second = obj.programs["nothing"].attach(), obj.programs["nothing"].attach()
        opened, incomplete = objects.open_id, first.info["id"]

        def open_id(command: Command, ident: int, flags: int = 0) -> Any:
            return -EAGAIN if ident == incomplete else opened(command, ident, flags)

        monkeypatch.setattr(inspect, "open_id", open_id)
        found = {link.id for link in inspect.links()}
        assert second.info["id"] in found
        assert incomplete not in found
