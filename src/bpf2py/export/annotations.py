"""Metrics that are declared in the program: ``btf_decl_tag`` attributes of maps, of members of keys and values, and of variables.

``<bpf2py/metrics.h>`` has macros for them. What a tag says stands before its colon:

* ``metric:counter``, ``metric:gauge``, ``metric:histogram`` of a map, a member of a map's value, or a global variable;
* ``name:``, ``help:``, ``unit:`` and ``buckets:`` of the same;
* ``label:``, ``decode:`` and ``expires:`` of a member of a map's key, or of the map where its key is not a struct.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from bpf2py.btf.reader import Btf
from bpf2py.btf.types import INT_BOOL, INT_CHAR, Array, DeclTag, Enum, Int, Kind, Ref, Struct, Var
from bpf2py.errors import EncodeError, ObjectError
from bpf2py.export.config import (
    LABEL,
    NAME,
    Buckets,
    Config,
    Decoder,
    Family,
    Label,
    Number,
    Source,
    check_buckets,
    check_names,
)
from bpf2py.export.decoder_table import DECODERS
from bpf2py.spec.map_spec import MapSpec
from bpf2py.spec.object_spec import ObjectSpec
from bpf2py.uapi.map_types import MapType

__all__ = ["UNITS", "annotated"]

Tags = Mapping[str, str]
KINDS = ("counter", "gauge", "histogram")
KNOWN = ("metric", "name", "help", "unit", "buckets", "label", "decode", "expires")
# Units that are exported in the base unit Prometheus wants.
UNITS = {
    "nanoseconds": ("seconds", 1e-9), "microseconds": ("seconds", 1e-6), "milliseconds": ("seconds", 1e-3),
    "kibibytes": ("bytes", 1024.0), "mebibytes": ("bytes", 1024.0**2),
}  # fmt: skip


def annotated(spec: ObjectSpec, where: str = "") -> Config:
    """What an object's annotations say. Raises EncodeError for tags that make no sense, ObjectError for an object without any."""
    where = where or spec.name
    found = _Annotations(spec, where)
    sources = tuple(found.sources())
    if not sources:
        raise ObjectError(
            f"{where}: no map, member or variable of it is tagged as a metric; see <bpf2py/metrics.h>, or give a config file"
        )
    config = Config(_word(spec.name), sources, prefix="")
    check_names(config, where)
    return config


class _Annotations:
    def __init__(self, spec: ObjectSpec, where: str) -> None:
        self.spec = spec
        self.where = where
        self.prefix = _word(spec.name)
        self._ids: dict[int, int] = {}
        self.tags: dict[tuple[int, int], dict[str, str]] = {}  # by type and member (-1: the whole)
        if spec.types is not None:
            for type_id in spec.types.ids_of_kind(Kind.DECL_TAG):
                tag = spec.types.type(type_id)
                assert isinstance(tag, DeclTag)
                name, colon, text = tag.name.partition(":")
                if colon and name in KNOWN:
                    self.tags.setdefault((tag.type_id, tag.component_index), {})[name] = text

    def sources(self) -> Iterator[Source]:
        btf = self.spec.types
        if btf is None:
            return
        for type_id in btf.ids_of_kind(Kind.VAR):
            variable = btf.type(type_id)
            assert isinstance(variable, Var)
            tags = self.tags.get((type_id, -1), {})
            map_spec = self.spec.maps.get(variable.name)
            if map_spec is not None:
                made = self._map(btf, map_spec, tags)
                if made is not None:
                    yield made
            elif "metric" in tags:
                yield self._variable(btf, variable, tags)

    def fail(self, what: str, text: str) -> EncodeError:
        return EncodeError(f"{self.where}: {what}: {text}")

    # -- values ------------------------------------------------------------------------------------------------------

    def _map(self, btf: Btf, found: MapSpec, tags: Tags) -> Source | None:
        value = btf.resolved(found.value_type_id) if found.value_type_id else None
        members = self._members(btf, value) if isinstance(value, Struct) else []
        if "metric" not in tags and not members:
            return None
        what = f"map {found.name}"
        if "metric" in tags and members:
            raise self.fail(what, "either the map is a metric, or members of its value are")
        places = members or [("", found.value_type_id, 0, tags)]
        if not found.value_type_id:
            raise self.fail(what, "its value has no type")
        labels = self._labels(btf, found, tags)
        slots = [self._slots(btf, type_id) for _, type_id, _, _ in places]
        by_key = [tags["metric"] == "histogram" and not n for (_, _, _, tags), n in zip(places, slots, strict=True)]
        if any(by_key) and (len(places) > 1 or not labels or labels[-1].decoders[-1].name != "uint"):
            raise self.fail(
                what, "a histogram is an array of counts, or the last member of the key is the number of the bucket"
            )
        numbers: list[Number] = []
        families = []
        for (member, type_id, offset, own), count in zip(places, slots, strict=True):
            name = f"{found.name}_{member}" if member else found.name
            families.append(
                self._family(name, own, len(numbers), count, found.max_entries, f"{what}: {member}" if member else what)
            )
            numbers += self._numbers(btf, type_id, offset, count if own["metric"] == "histogram" else 0, what)
        return Source(found.name, tuple(labels), tuple(numbers), tuple(families))

    def _variable(self, btf: Btf, variable: Var, tags: Tags) -> Source:
        what, count = f"variable {variable.name}", self._slots(btf, variable.type_id)
        if tags["metric"] == "histogram" and not count:
            raise self.fail(what, "a histogram is an array of counts")
        numbers = self._numbers(btf, variable.type_id, 0, count if tags["metric"] == "histogram" else 0, what)
        family = self._family(variable.name, tags, 0, count, 0, what)
        return Source(variable.name, (), tuple(numbers), (family,), "variable")

    def _members(
        self, btf: Btf, struct: Struct, name: str = "", offset: int = 0, depth: int = 0
    ) -> list[tuple[str, int, int, Tags]]:
        """(name, type, offset, tags) of the members that are metrics."""
        found: list[tuple[str, int, int, Tags]] = []
        type_id = self._id_of(btf, struct)
        for index, member in enumerate(struct.members):
            inner = "_".join(part for part in (name, member.name) if part)
            tags = self.tags.get((type_id, index), {})
            at = offset + member.bit_offset // 8
            if "metric" in tags:
                if member.bits:
                    raise self.fail(inner, "a bit field cannot be a metric")
                found.append((inner, member.type_id, at, tags))
                continue
            below = btf.resolved(member.type_id)
            if isinstance(below, Struct) and depth < 8:
                found += self._members(btf, below, inner, at, depth + 1)
        return found

    def _id_of(self, btf: Btf, struct: Struct) -> int:
        """The id of a struct or union, by which its tags are known."""
        if not self._ids:
            kinds = (Kind.STRUCT, Kind.UNION)
            self._ids = {id(btf.type(type_id)): type_id for kind in kinds for type_id in btf.ids_of_kind(kind)}
        return self._ids.get(id(struct), -1)

    def _slots(self, btf: Btf, type_id: int) -> int:
        array = btf.resolved(type_id)
        return array.count if isinstance(array, Array) else 0

    def _numbers(self, btf: Btf, type_id: int, offset: int, slots: int, what: str) -> list[Number]:
        kind = btf.resolved(type_id)
        if slots and isinstance(kind, Array):
            kind = btf.resolved(kind.type_id)
        if not isinstance(kind, Int) or kind.size not in (1, 2, 4, 8):
            raise self.fail(what, "a metric is an integer of 1, 2, 4 or 8 bytes, a histogram an array of them")
        return [Number(offset + kind.size * index, kind.size, kind.signed) for index in range(max(1, slots))]

    def _family(self, name: str, tags: Tags, first: int, slots: int, entries: int, what: str) -> Family:
        kind = tags["metric"]
        if kind not in KINDS:
            raise self.fail(what, f"metric:{kind} is not one of {', '.join(KINDS)}")
        unit, multiplier = UNITS.get(tags.get("unit", ""), (tags.get("unit", ""), 1.0))
        full = tags.get("name", "")
        if not full:
            full = f"{self.prefix}_{name}".removesuffix("_total")
            full += f"_{unit}" if unit and not full.endswith(f"_{unit}") else ""
            full += "_total" if kind == "counter" else ""
        if not NAME.match(full):
            raise self.fail(what, f"{full!r} cannot be a name in Prometheus: letters, digits and _")
        buckets = None
        if kind == "histogram":
            buckets = self._buckets(tags.get("buckets", "log2"), (slots or entries) - 1, multiplier, what)
        return Family(kind, full, tags.get("help", ""), first, multiplier, buckets, slots if kind == "histogram" else 0)

    def _buckets(self, text: str, last: int, multiplier: float, what: str) -> Buckets:
        kind, _, step = text.partition(":")
        if kind not in ("log2", "exp2", "exp2zero", "linear") or (step and not step.isdecimal()) or step == "0":
            raise self.fail(what, f"buckets:{text} is not one of log2, exp2, exp2zero, linear and linear:STEP")
        if kind != "linear":
            last = min(last, 63)
        made = Buckets(kind, 0, last, multiplier * (int(step) if step else 1))
        check_buckets(made, f"{self.where}: {what}")
        return made

    # -- keys --------------------------------------------------------------------------------------------------------

    def _labels(self, btf: Btf, found: MapSpec, tags: Tags) -> list[Label]:
        if not found.key_type_id or (found.type in (MapType.ARRAY, MapType.PERCPU_ARRAY) and found.max_entries == 1):
            return []
        parts: list[tuple[str, int, int, Tags]] = []
        key = btf.resolved(found.key_type_id)
        if isinstance(key, Struct):
            self._key_members(btf, key, "", 0, parts, f"map {found.name}")
        else:
            parts.append((tags.get("label") or "key", found.key_type_id, 0, tags))
        made: list[Label] = []
        at = 0
        for name, type_id, offset, own in parts:
            size = btf.size_of(type_id)
            if offset > at and not made:
                made.append(Label("", offset, ()))
            elif offset > at:
                made[-1] = made[-1]._replace(padding=offset - at)
            at = offset + size
            what = f"map {found.name}: key member {name}"
            if own.get("label") == "none":
                made.append(Label("", size, ()))
                continue
            label = own.get("label") or name
            if not LABEL.match(label):
                raise self.fail(what, f"{label!r} cannot be the name of a label")
            expires = own.get("expires", "cgroup" if own.get("decode") == "cgroup" else "")
            if expires not in ("", "process", "cgroup"):
                raise self.fail(what, f"expires:{expires} is neither process nor cgroup")
            made.append(Label(label, size, self._decoders(btf, type_id, own.get("decode", ""), what), 0, expires))
        if made and at < found.key_size:
            made[-1] = made[-1]._replace(padding=found.key_size - at)
        return made

    def _key_members(
        self, btf: Btf, struct: Struct, name: str, offset: int, parts: list[tuple[str, int, int, Tags]], what: str
    ) -> None:
        if struct.kind == Kind.UNION:
            raise self.fail(
                f"{what}: key member {name}", "a union has no text of its own: tag it with decode:, or label:none"
            )
        type_id = self._id_of(btf, struct)
        for index, member in enumerate(struct.members):
            inner = "_".join(part for part in (name, member.name) if part)
            tags = self.tags.get((type_id, index), {})
            at = offset + member.bit_offset // 8
            if member.bits:
                raise self.fail(f"{what}: key member {inner}", "a bit field cannot be a label")
            below = btf.resolved(member.type_id)
            if isinstance(below, Struct) and not tags.get("decode") and tags.get("label") != "none":
                self._key_members(btf, below, tags.get("label") or inner, at, parts, what)
            else:
                parts.append((inner, member.type_id, at, tags))

    def _decoders(self, btf: Btf, type_id: int, name: str, what: str) -> tuple[Decoder, ...]:
        kind = btf.resolved(type_id)
        if name:
            facts = DECODERS.get(name)
            if facts is None or name in ("static_map", "regexp"):
                raise self.fail(what, f"decode:{name} is not a decoder")
            before = {"number": ("uint",), "text": ("string",)}.get(facts.takes, ())
            return tuple(Decoder(each) for each in (*before, name))
        if isinstance(kind, Enum):
            mask = (1 << 8 * kind.size) - 1
            return Decoder("uint"), Decoder("static_map", {str(v.value & mask): v.name for v in kind.values}, (), True)
        if isinstance(kind, Int) and kind.size in (1, 2, 4, 8):
            if kind.encoding & INT_BOOL:
                return Decoder("uint"), Decoder("static_map", {"0": "false", "1": "true"}, (), True)
            return (Decoder("int" if kind.signed and not kind.encoding & INT_CHAR else "uint"),)
        if isinstance(kind, Ref) and kind.kind == Kind.PTR:
            return (Decoder("uint"),)
        if isinstance(kind, Array):
            element = btf.resolved(kind.type_id)
            if isinstance(element, Int) and element.size == 1:
                is_text = element.signed or bool(element.encoding & INT_CHAR) or element.name == "char"
                return (Decoder("string" if is_text else "hex"),)
        raise self.fail(what, "its type has no text: tag it with decode:, or label:none")


def _word(name: str) -> str:
    word = re.sub(r"[^a-zA-Z0-9_]", "_", name.removesuffix(".bpf"))
    return word if NAME.match(word) else f"_{word}"
