"""bpf2py: eBPF for Python.

Write eBPF C, `load()` it, and its maps are typed Python collections on the running kernel::

    import bpf2py

    with bpf2py.load("counter.bpf.c") as obj:
        obj.attach()
        for key, value in obj.maps["counts"].items():
            print(key, value)

Names are imported when first used, so that ``import bpf2py`` costs little.
"""

from __future__ import annotations

from bpf2py._lazy import import_module as _import_module
from bpf2py._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bpf2py import errors as errors
    from bpf2py import features as features
    from bpf2py.errors import (
        AttachError,
        BpfError,
        BpfOSError,
        BtfError,
        ClosedError,
        CompileError,
        CompilerNotFound,
        EncodeError,
        IndexOutOfRange,
        IterationAborted,
        KeyExists,
        KeyNotFound,
        MapCreateError,
        MapFull,
        MapIncompatible,
        NotSupported,
        ObjectError,
        PermissionDenied,
        QueueEmpty,
        RelocationError,
        VerifierError,
    )
    from bpf2py.kernel.ksyms import ksym
    from bpf2py.kernel.trace_pipe import trace_pipe
    from bpf2py.loading import load
    from bpf2py.maps.histogram import Histogram
    from bpf2py.maps.percpu import PerCpu
    from bpf2py.maps.public import Map
    from bpf2py.object import Object
    from bpf2py.programs import Link, Program, enable_stats
    from bpf2py.readers.perf import PerfReader
    from bpf2py.readers.ring import RingReader
    from bpf2py.spec.map_spec import MapSpec
    from bpf2py.spec.object_spec import ObjectSpec
    from bpf2py.spec.program_spec import ProgramSpec
    from bpf2py.toolchain.compiler import compile
    from bpf2py.uapi.attach_options import AttachOptions
    from bpf2py.uapi.map_types import MapFlags, MapType, UpdateFlags
    from bpf2py.uapi.program_types import AttachType, ProgramType
    from bpf2py.uapi.syscalls import syscall_name
    from bpf2py.variables import Variable

__version__ = "0.1.0"

_HOMES = {
    "load": "loading",
    "Map": "maps.base",
    "Object": "object",
    "Link": "programs",
    "Program": "programs",
    "enable_stats": "programs",
    "MapSpec": "spec.map_spec",
    "ObjectSpec": "spec.object_spec",
    "ProgramSpec": "spec.program_spec",
    "compile": "toolchain.compiler",
    "AttachOptions": "uapi.attach_options",
    "MapFlags": "uapi.map_types",
    "MapType": "uapi.map_types",
    "UpdateFlags": "uapi.map_types",
    "AttachType": "uapi.program_types",
    "ProgramType": "uapi.program_types",
    "Variable": "variables",
    "RingReader": "readers.ring",
    "PerfReader": "readers.perf",
    "Histogram": "maps.histogram",
    "PerCpu": "maps.percpu",
    "syscall_name": "uapi.syscalls",
    "ksym": "kernel.ksyms",
    "trace_pipe": "kernel.trace_pipe",
}
_MODULES = {
    "errors": "bpf2py.errors",
    "features": "bpf2py.features",
    "maps": "bpf2py.maps",
    "readers": "bpf2py.readers",
    "values": "bpf2py.values",
}

__all__ = [
    "AttachError",
    "AttachOptions",
    "AttachType",
    "BpfError",
    "BpfOSError",
    "BtfError",
    "ClosedError",
    "CompileError",
    "CompilerNotFound",
    "EncodeError",
    "Histogram",
    "IndexOutOfRange",
    "IterationAborted",
    "KeyExists",
    "KeyNotFound",
    "Link",
    "Map",
    "MapCreateError",
    "MapFlags",
    "MapFull",
    "MapIncompatible",
    "MapSpec",
    "MapType",
    "NotSupported",
    "Object",
    "ObjectError",
    "ObjectSpec",
    "PerCpu",
    "PerfReader",
    "PermissionDenied",
    "Program",
    "ProgramSpec",
    "ProgramType",
    "QueueEmpty",
    "RelocationError",
    "RingReader",
    "UpdateFlags",
    "Variable",
    "VerifierError",
    "compile",
    "enable_stats",
    "errors",
    "features",
    "ksym",
    "load",
    "syscall_name",
    "trace_pipe",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(_import_module(f"bpf2py.{_HOMES[name]}"), name)
    elif name in _MODULES:
        value = _import_module(_MODULES[name])
    elif name in __all__:
        value = getattr(_import_module("bpf2py.errors"), name)
    else:
        raise AttributeError(f"module 'bpf2py' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, "__all__", "__doc__", "__file__", "__name__", "__path__", "__version__"})
