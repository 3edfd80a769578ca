"""Stacks as a file for speedscope (https://www.speedscope.app/file-format-schema.json)."""

from __future__ import annotations

import json
from collections.abc import Mapping

__all__ = ["profile"]

_UNITS = {"bytes": "bytes", "nanoseconds": "nanoseconds", "microseconds": "microseconds", "seconds": "seconds"}


def profile(counts: Mapping[tuple[str, ...], int], name: str, unit: str) -> bytes:
    """A "sampled" profile: stacks, outermost first, with their weights."""
    frames: dict[str, int] = {}
    samples = [[frames.setdefault(each, len(frames)) for each in names] for names in counts]
    weights = list(counts.values())
    return json.dumps(
        {
            "$schema": "https://www.speedscope.app/file-format-schema.json",
            "exporter": "bpf2py",
            "name": name,
            "shared": {"frames": [{"name": each} for each in frames]},
            "profiles": [
                {
                    "type": "sampled",
                    "name": name,
                    "unit": _UNITS.get(unit, "none"),
                    "startValue": 0,
                    "endValue": sum(weights),
                    "samples": samples,
                    "weights": weights,
                }
            ],
        }
    ).encode()
