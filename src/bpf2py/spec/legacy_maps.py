"""Map definitions in a legacy ``maps`` section: ``struct bpf_map_def`` of five or more 32-bit words.

libbpf 1.0 dropped them; objects of the time before are still around.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from bpf2py.elf.object_file import Section, Symbol
from bpf2py.errors import ObjectError
from bpf2py.spec.map_spec import MapSpec, Pinning


def read_legacy_maps(section: Section, symbols: Iterable[Symbol], file: str) -> list[tuple[MapSpec, int]]:
    """The definitions with their offsets in the section.

    The fields are type, key_size, value_size, max_entries, map_flags and, in iproute2's longer form, id, pinning,
    inner_id and inner_idx, of which only `pinning` 0 and zeros are accepted.
    """
    named = sorted({s.value: s.name for s in symbols if s.section == section.number and s.name and s.type != 3}.items())
    if not named:
        raise ObjectError(f"{file}: no symbol names the maps", section=section.name)
    ends = [offset for offset, _ in named[1:]] + [section.size]
    maps = []
    for (offset, name), end in zip(named, ends, strict=True):
        raw = section.data[offset:end]
        if len(raw) < 20:
            raise ObjectError(
                f"{file}: map {name}: a definition of {len(raw)} bytes is too short", section=section.name
            )
        if any(raw[20:]):
            raise ObjectError(
                f"{file}: map {name}: unknown non-zero fields after the first five; define it in .maps instead",
                section=section.name,
            )
        kind, key_size, value_size, max_entries, flags = struct.unpack_from("<IIIII", raw)
        maps.append((MapSpec(name, kind, key_size, value_size, max_entries, flags, pinning=Pinning.NONE), offset))
    return maps
