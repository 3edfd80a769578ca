"""The engine's maps: structures in its memory, worked on by its library, with the answers of a kernel.

Each type's memory is laid out in `types`, objects that hold other objects are in `objects`, those
packets are redirected through in `devices`, creation is checked in `check`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bpf2py.engine.maps.check import create_errno
from bpf2py.engine.maps.core import TEMPLATE
from bpf2py.engine.maps.fields import special_fields
from bpf2py.engine.maps.handle import EngineMap
from bpf2py.engine.maps.types import BUILDERS, PROGRAM_SIDE
from bpf2py.errors import BpfOSError, MapCreateError, NotSupported
from bpf2py.spec.check_map import explain_create
from bpf2py.spec.exclusive import exclusive_digest, no_exclusive_maps
from bpf2py.uapi.errno import ENOMEM
from bpf2py.uapi.map_types import MapType, type_info

if TYPE_CHECKING:
    from bpf2py.engine.maps.core import MapSystem
    from bpf2py.spec.map_spec import MapSpec

__all__ = ["PROGRAM_SIDE", "EngineMap", "create"]


def create(engine: MapSystem, spec: MapSpec, inner: EngineMap | None = None) -> EngineMap:
    """Create a map, as the simulated kernel would.

    Args:
        engine: the machine.
        spec: the map.
        inner: for maps of maps: a map such as those it is to hold.

    Raises:
        MapCreateError: the kernel refuses the spec; the message says which field is wrong.
        NotSupported: the kernel is too old for the type, or the type makes no sense without a kernel.
    """
    where = f"map {spec.name}: create"
    if spec.exclusive is not None:
        exclusive_digest(spec)
        if engine.version < (6, 18):
            raise no_exclusive_maps(where, engine.kernel)
    type_id = spec.section_type_id if spec.data_size is not None else spec.value_type_id
    fields = special_fields(spec.btf, type_id)
    template = inner.core.spec if inner is not None else None
    error = create_errno(spec, engine.version, engine.possible_cpus, fields, template)
    if error:
        raise _refused(engine, spec, error, where)
    builder = BUILDERS.get(spec.type)
    if builder is None:
        # Imported when such a map is made: most programs have none.
        from bpf2py.engine.maps.cgroup_storage import CGROUP_BUILDERS
        from bpf2py.engine.maps.devices import DEVICE_BUILDERS
        from bpf2py.engine.maps.objects import OBJECT_BUILDERS

        builder = (OBJECT_BUILDERS | DEVICE_BUILDERS | CGROUP_BUILDERS).get(spec.type)
    if builder is None:
        raise NotSupported(
            f"{where}: the engine has no {spec.type_name} maps, which need a kernel's own objects; use the kernel backend",
            feature=spec.type_name,
        )
    try:
        core = builder(engine, spec, fields)
    except BpfOSError as failed:
        raise MapCreateError(
            f"{where}: the engine's memory does not hold {spec!r}",
            errno=failed.errno or ENOMEM,
            command="BPF_MAP_CREATE",
        ) from None
    if inner is not None:
        core.held[TEMPLATE] = inner.core
    return EngineMap(core, int(spec.flags))


def _refused(engine: MapSystem, spec: MapSpec, errno: int, where: str) -> Exception:
    if isinstance(spec.type, MapType):
        since = type_info(spec.type).since
        if engine.version < tuple(int(part) for part in since.split(".")):
            return NotSupported(
                f"{where}: {spec.type_name} needs Linux {since}, the engine simulates {engine.kernel}",
                feature=spec.type_name,
                since=since,
                errno=errno,
                command="BPF_MAP_CREATE",
            )
    reason = explain_create(spec) or f"the kernel refused {spec!r}"
    return MapCreateError(f"{where}: {reason}", errno=errno, command="BPF_MAP_CREATE")
