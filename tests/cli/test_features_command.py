"""bpf2py features: what it says is what the probes say."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bpf2py import features
from bpf2py.uapi.map_types import MAP_TYPE_INFO
from bpf2py.uapi.program_types import ProgramType


def cli(*arguments: str) -> str:
    argv = [sys.executable, "-m", "bpf2py", "features", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=100).stdout


@pytest.mark.kernel
def test_types_of_maps_and_programs() -> None:
    report = json.loads(cli("--json"))
    assert report["map_types"] == {kind.name: features.map_type(kind) for kind in MAP_TYPE_INFO}
    assert report["program_types"].keys() == {kind.name for kind in ProgramType} - {"UNSPEC"}
    assert report["program_types"]["XDP"] is True
    rows = [line.split() for line in cli().splitlines()]
    assert ["HASH", "3.19", "yes"] in rows
    assert ["program", "type", "since", "here"] in rows


@pytest.mark.kernel
def test_helpers_of_a_program_type() -> None:
    report = json.loads(cli("--helpers", "XDP", "--json"))["helpers_of_xdp"]
    assert report["bpf_xdp_adjust_head"] is True
    assert report["bpf_skb_load_bytes"] is False
    assert ["bpf_map_lookup_elem", "3.19", "yes"] in [line.split() for line in cli("--helpers", "xdp").splitlines()]
