"""A short run of the comparison with the kernel; `make soak` does a million operations."""

from __future__ import annotations

import pytest
from tests.engine import program_differential
from tests.engine.differential import TYPES, Difference, run

from bpf2py.uapi.map_types import MapType

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("kind", sorted(set(TYPES)), ids=lambda kind: kind.name)
def test_as_the_kernel(kind: MapType) -> None:
    counts = run(seed=kind, operations=2500, kinds=(kind,))
    assert sum(counts.values()) >= 2500


@pytest.mark.parametrize(
    "kind", sorted({row[0] for row in program_differential.CONFIGURATIONS}), ids=lambda kind: kind.name
)
def test_programs_as_on_the_kernel(kind: MapType) -> None:
    counts = program_differential.run(seed=kind, operations=1500, only=kind)
    assert sum(counts.values()) >= 1500


def test_differences_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from bpf2py.engine.maps import types

    monkeypatch.setitem(types._ARRAY, "delete", -95)
    with pytest.raises(Difference, match="delete"):
        run(seed=1, operations=2000, kinds=(MapType.ARRAY,))
