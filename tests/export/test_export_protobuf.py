"""Prometheus' protobuf format, taken apart again by hand."""

from __future__ import annotations

import struct

import pytest

pytest.importorskip("prometheus_client")
pytest.importorskip("google.protobuf")

from prometheus_client.core import CounterMetricFamily, InfoMetricFamily

from bpf2py.export.families import HistogramPoint, MetricFamily, gauge
from bpf2py.export.histogram import Exponential
from bpf2py.export.protobuf import encode, is_wanted

PROTOBUF = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"


def varint(data: bytes, at: int) -> tuple[int, int]:
    found = shift = 0
    while True:
        found |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return found, at


def fields(data: bytes) -> list[tuple[int, int | float | bytes]]:
    """(number, value) of a message: numbers as they are written, doubles, bytes."""
    found: list[tuple[int, int | float | bytes]] = []
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        if tag & 7 == 1:
            found.append((tag >> 3, struct.unpack_from("<d", data, at)[0]))
            at += 8
        elif tag & 7 == 2:
            size, at = varint(data, at)
            found.append((tag >> 3, data[at : at + size]))
            at += size
        else:
            assert tag & 7 == 0
            number, at = varint(data, at)
            found.append((tag >> 3, number))
    return found


def messages(data: bytes) -> list[list[tuple[int, int | float | bytes]]]:
    found = []
    at = 0
    while at < len(data):
        size, at = varint(data, at)
        found.append(fields(data[at : at + size]))
        at += size
    return found


def part(message: list[tuple[int, int | float | bytes]], number: int) -> bytes:
    (found,) = [value for each, value in message if each == number]
    assert isinstance(found, bytes)
    return found


def test_numbers() -> None:
    runs = CounterMetricFamily("runs", "How often.", labels=["id"])
    runs.add_metric(['a"\n\x1bé'], 3)
    link = InfoMetricFamily("link", "Where.", labels=[])
    link.add_metric([], {"device": "lo"})
    named = MetricFamily("calls", "", "counter")  # without _total
    named.add_sample("calls", {}, 2**64)
    found = messages(encode([runs, link, named, gauge("full", "", 0.5)]))
    assert [(part(each, 1), dict(each)[3]) for each in found] == [
        (b"runs_total", 0), (b"link_info", 1), (b"calls", 0), (b"full", 1)
    ]  # fmt: skip
    one = fields(part(found[0], 4))
    assert fields(part(one, 1)) == [(1, b"id"), (2, 'a"\n\x1bé'.encode())]
    assert fields(part(one, 3)) == [(1, 3.0)]
    assert fields(part(fields(part(found[2], 4)), 3)) == [(1, 2.0**64)]
    assert fields(part(fields(part(found[3], 4)), 2)) == [(1, 0.5)]


def test_histograms() -> None:
    family = MetricFamily("sizes", "How much.", "histogram")
    family.add_histogram(HistogramPoint({}, [(1, 5), (3, 5)], 14, None, Exponential(0, [5, 0, 9], 2, True, 31.5)))
    family.add_histogram(HistogramPoint({}, [(10, 1)], 2**70, 99.0, None))
    (found,) = messages(encode([family]))
    assert dict(found)[3] == 4
    native, other = [
        fields(part(fields(value), 7)) for number, value in found if number == 4 and isinstance(value, bytes)
    ]
    assert dict(native)[1] == 14
    assert dict(native)[2] == 31.5  # of the middles
    assert [fields(value) for number, value in native if number == 3 and isinstance(value, bytes)] == [
        [(1, 5), (2, 1.0)], [(1, 5), (2, 3.0)]
    ]  # fmt: skip
    assert (dict(native)[5], dict(native)[7]) == (0, 2)
    assert fields(part(native, 12)) == [(1, 0), (2, 3)]
    assert [value for number, value in native if number == 13] == [10, 9, 18]  # zigzag of 5, -5, 9
    assert dict(other)[1] == 2**64 - 1
    assert dict(other)[2] == 99.0
    assert 12 not in dict(other)


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        (PROTOBUF, True),
        (f"{PROTOBUF};q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2,*/*;q=0.1", True),
        (f"application/openmetrics-text;q=0.9,{PROTOBUF};q=0.8", False),
        (f"{PROTOBUF};q=0", False),
        (f"{PROTOBUF};q=none", False),
        ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text", False),
        ("application/vnd.google.protobuf;proto=other.MetricFamily;encoding=delimited", False),
    ],
)
def test_who_asks_for_it_gets_it(accept: str, wanted: bool) -> None:
    assert is_wanted(accept) is wanted
