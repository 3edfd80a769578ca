"""Choosing a backend: the one file of the public API that names any."""

from __future__ import annotations

import os

from bpf2py._typing import TYPE_CHECKING, Literal, TypeAlias
from bpf2py.errors import NotSupported

if TYPE_CHECKING:
    from bpf2py.engine.engine import Engine
    from bpf2py.kernel.backend import KernelBackend
    from bpf2py.seam.protocol import Backend

__all__ = ["BackendChoice", "new_engine", "resolve_backend"]

# What `backend=` takes everywhere. The literals are for editors; text that comes from elsewhere is checked when it is used.
BackendChoice: TypeAlias = "Backend | Literal['kernel', 'engine', 'auto'] | str | None"

_kernel: KernelBackend | None = None
_engine: Engine | None = None


def resolve_backend(backend: BackendChoice = None) -> Backend:
    """The backend meant by ``None``, ``"kernel"``, ``"engine"``, ``"auto"`` or a backend object.

    None means the environment variable BPF2PY_BACKEND, and the kernel where that is unset. ``"engine"`` is one engine for the
    whole process, as there is one kernel, with as many CPUs as this machine. ``"auto"`` is the kernel where bpf() is permitted,
    else the engine.

    Raises NotSupported for another name, and for what is not a backend.
    """
    if backend is None:
        backend = os.environ.get("BPF2PY_BACKEND") or "kernel"
    if not isinstance(backend, str):
        if not hasattr(backend, "open_map_id"):
            raise NotSupported(
                f"{backend!r} is not a backend; choose kernel, engine, auto or an Engine", feature="backend"
            )
        return backend
    if backend == "auto":
        from bpf2py.kernel.probes import Probes

        backend = "kernel" if Probes.run().kernel_usable else "engine"
    if backend == "kernel":
        return _the_kernel()
    if backend == "engine":
        return _the_engine()
    raise NotSupported(f"there is no backend {backend!r}; choose kernel, engine or auto", feature=backend)


def new_engine(kernel: str | None = None, possible_cpus: int = 4) -> Engine:
    """An engine of one's own: with maps, a clock and hooks that nobody else has."""
    from bpf2py.engine.engine import Engine

    return Engine(kernel, possible_cpus) if kernel is not None else Engine(possible_cpus=possible_cpus)


def _the_kernel() -> KernelBackend:
    global _kernel
    if _kernel is None:
        from bpf2py.kernel.backend import KernelBackend

        _kernel = KernelBackend()
    return _kernel


def _the_engine() -> Engine:
    global _engine
    if _engine is None:
        from bpf2py.engine.engine import Engine
        from bpf2py.uapi.cpus import possible_cpus

        try:
            _engine = Engine(possible_cpus=possible_cpus())
        except OSError:  # no Linux
            _engine = Engine(possible_cpus=os.cpu_count() or 1)
    return _engine
