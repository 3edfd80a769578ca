"""Values of maps, events and variables: structs and unions by their members, one value for each CPU, histograms."""

from __future__ import annotations

from bpf2py._lazy import lazily
from bpf2py._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bpf2py.btf.values import StructValue, UnionValue
    from bpf2py.codegen.variables import TypedVariable
    from bpf2py.maps.histogram import Bucket, Histogram
    from bpf2py.maps.percpu import PerCpu

__all__ = ["Bucket", "Histogram", "PerCpu", "StructValue", "TypedVariable", "UnionValue"]

__getattr__, __dir__ = lazily(
    __name__,
    globals(),
    {
        "Bucket": "maps.histogram",
        "Histogram": "maps.histogram",
        "PerCpu": "maps.percpu",
        "StructValue": "btf.values",
        "TypedVariable": "codegen.variables",
        "UnionValue": "btf.values",
    },
)
