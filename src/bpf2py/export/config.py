"""What is exported of an object, and as what: read from a YAML file in the format of cloudflare's ebpf_exporter.

The format is that project's (https://github.com/cloudflare/ebpf_exporter); ``gauges``, ``unit`` and ``expires`` are this one's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bpf2py.errors import EncodeError, NotSupported
from bpf2py.export.decoder_table import DECODERS

__all__ = [
    "Buckets",
    "CgroupIdMap",
    "Config",
    "Decoder",
    "Family",
    "Label",
    "Number",
    "Source",
    "SpanSource",
    "check_buckets",
    "check_names",
    "config_from",
    "read_config",
]

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")
ATTRIBUTE = re.compile(r"[\w.:-]+\Z", re.ASCII)  # of a span: "cpu.orig"
BUCKETS = ("exp2", "exp2zero", "linear", "fixed")
MOST_BUCKETS = 1000
MOST_BYTES = 4 << 20
# Go's time.ParseDuration: "300ms", "1h30m".
DURATIONS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")


class Decoder(NamedTuple):
    """A step from the bytes of a key to the text of a label."""

    name: str
    static_map: Mapping[str, str] | None = None
    regexps: tuple[re.Pattern[str], ...] = ()
    allow_unknown: bool = False


class Label(NamedTuple):
    """A part of the key: `size` bytes, then `padding` bytes that are skipped.

    Without decoders it is left out: keys that differ in it alone are added. `expires` says whose number it is: ``"process"``,
    ``"cgroup"`` or empty.
    """

    name: str
    size: int
    decoders: tuple[Decoder, ...]
    padding: int = 0
    expires: str = ""


class Number(NamedTuple):
    """Where one of the numbers of a value is."""

    offset: int = 0
    size: int = 8
    signed: bool = False


class Buckets(NamedTuple):
    """How a histogram counts: by ``exp2``, ``exp2zero``, ``linear``, ``fixed``, or ``log2`` (floor(log2(n)))."""

    type: str
    min: int
    max: int
    multiplier: float = 1.0
    keys: tuple[float, ...] = ()


class Family(NamedTuple):
    """A metric: a ``"counter"`` or ``"gauge"`` is the number `first` of its source, times `multiplier`.

    A ``"histogram"`` is counts by bucket: `slots` numbers from `first` on, or, with no slots, one number for each value of the last
    label.
    """

    kind: str
    name: str
    help: str
    first: int = 0
    multiplier: float = 1.0
    buckets: Buckets | None = None
    slots: int = 0


class Source(NamedTuple):
    """What is read in one go, and the metrics made of it.

    Its kind is ``"map"``, ``"perf"`` (records of a perf buffer are counted) or ``"variable"`` (a global variable).
    """

    map: str
    labels: tuple[Label, ...]
    numbers: tuple[Number, ...]
    families: tuple[Family, ...]
    kind: str = "map"
    flush_interval: float = 3600.0

    @property
    def label_names(self) -> list[str]:
        """The names of the labels."""
        return [label.name for label in self.labels if label.decoders]

    @property
    def last_is_bucket(self) -> bool:
        """Whether the last label is the bucket of a histogram."""
        return any(family.buckets is not None and not family.slots for family in self.families)


class CgroupIdMap(NamedTuple):
    """A map that is filled with the ids of cgroups whose path matches: a hash, or a storage of cgroups (``cgrp_storage``)."""

    name: str
    type: str
    regexps: tuple[re.Pattern[str], ...]


class SpanSource(NamedTuple):
    """Spans of traces: the records of a ring buffer, and the service they are told as."""

    ringbuf: str
    name: str
    service: str
    labels: tuple[Label, ...]


class Config(NamedTuple):
    """A config file, or what an object's annotations say: `name` is the file's without its ending."""

    name: str
    sources: tuple[Source, ...] = ()
    kaddrs: tuple[str, ...] = ()
    cgroup_id_map: CgroupIdMap | None = None
    spans: tuple[SpanSource, ...] = ()
    prefix: str = "ebpf_exporter_"


def read_config(path: str | os.PathLike[str]) -> Config:
    """Read a config file. Raises EncodeError that says where it is wrong, OSError, NotSupported without PyYAML."""
    try:
        import yaml
    except ImportError:
        raise NotSupported("PyYAML is not installed: pip install 'bpf2py[prometheus]'", feature="PyYAML") from None
    path = Path(path)
    with open(path, "rb") as file:
        text = file.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise EncodeError(f"{path}: a config has at most {MOST_BYTES} bytes")
    try:
        # Words stay as they are written: keys of a static_map may be 0x10 or on.
        content = yaml.load(text, yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise EncodeError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    return config_from(content, path.name.removesuffix(".yml").removesuffix(".yaml"), str(path))


def config_from(content: object, name: str, where: str) -> Config:
    """A config from what YAML made of it. Raises EncodeError."""
    top = _Node(content, where)
    if isinstance(content, dict) and "programs" in content:
        top.fail(
            "this is a config of ebpf_exporter 1, which contains programs for BCC; in version 2 they are separate files"
        )
    metrics, tracing = top.node("metrics"), top.node("tracing")
    found = [_metric(each, kind) for kind in ("counter", "gauge") for each in metrics.nodes(kind + "s")]
    found += [_histogram(each) for each in metrics.nodes("histograms")]
    metrics.done()
    spans = tuple(_span(each) for each in tracing.nodes("spans"))
    tracing.done()
    kaddrs = [each.text() for each in top.nodes("kaddrs")]
    id_map = _cgroup_id_map(top.node("cgroup_id_map")) if top.has("cgroup_id_map") else None
    top.text("name", "")
    top.done()
    if not found and not spans:
        top.fail("it has no metrics and no spans")
    made = Config(name, tuple(found), tuple(kaddrs), id_map, spans)
    check_names(made, where)
    return made


def check_names(config: Config, where: str) -> None:
    """Raises EncodeError for two metrics of one name."""
    names = [family.name for source in config.sources for family in source.families]
    for each in names:
        if names.count(each) > 1:
            raise EncodeError(f"{where}: two metrics are called {each!r}")


class _Node:
    """A part of the document, and where it is; what was not asked for when `done()` is called is a mistake."""

    def __init__(self, content: object, where: str) -> None:
        self.content = content
        self.where = where
        self._asked: set[str] = set()

    def fail(self, text: str) -> None:
        raise EncodeError(f"{self.where}: {text}")

    def has(self, key: str) -> bool:
        return isinstance(self.content, dict) and bool(self.content.get(key))

    def _get(self, key: str) -> Any:
        self._asked.add(key)
        if not self.content:
            return None
        if not isinstance(self.content, dict):
            raise EncodeError(f"{self.where}: a mapping is needed here, not {_kind(self.content)}")
        return self.content.get(key) or None

    def node(self, key: str) -> _Node:
        return _Node(self._get(key), f"{self.where}: {key}")

    def nodes(self, key: str) -> list[_Node]:
        found = self._get(key)
        if found is None:
            return []
        if not isinstance(found, list):
            raise EncodeError(f"{self.where}: {key}: a list is needed here, not {_kind(found)}")
        return [_Node(each, f"{self.where}: {_named(key, each, index)}") for index, each in enumerate(found)]

    def text(self, key: str | None = None, default: str | None = None) -> str:
        found = self.content if key is None else self._get(key)
        where = self.where if key is None else f"{self.where}: {key}"
        if found is None and default is not None:
            return default
        if not isinstance(found, str):
            raise EncodeError(f"{where}: {'it is missing' if found is None else f'text is needed, not {_kind(found)}'}")
        return found

    def number(self, key: str, default: float | None = None) -> float:
        found = self._get(key)
        if found is None and default is not None:
            return default
        if found is None:
            raise EncodeError(f"{self.where}: {key}: it is missing")
        return _number(found, f"{self.where}: {key}")

    def whole(self, key: str, default: int | None = None) -> int:
        found = self.number(key, default)
        if found != int(found):
            self.fail(f"{key}: a whole number is needed, not {found}")
        return int(found)

    def flag(self, key: str) -> bool:
        found = self._get(key)
        if found not in (None, "true", "True", "false", "False"):
            self.fail(f"{key}: true or false is needed, not {_kind(found)}")
        return found in ("true", "True")

    def patterns(self, key: str) -> tuple[re.Pattern[str], ...]:
        found = []
        for each in self.nodes(key):
            text = each.text()
            try:
                found.append(re.compile(text.replace(r"\z", r"\Z")))
            except re.error as error:
                each.fail(f"{text!r} is not a regular expression: {error}")
        return tuple(found)

    def duration(self, key: str, default: float) -> float:
        found = self._get(key)
        if found is None:
            return default
        if isinstance(found, str) and found.isdecimal():
            return int(found) / 1e9  # as Go has it: nanoseconds
        pieces = DURATION.findall(found) if isinstance(found, str) else []
        if not pieces or "".join(number + unit for number, unit in pieces) != found:
            self.fail(f"{key}: a duration such as 10s or 1h30m is needed, not {found!r}")
        return float(sum(float(number) * DURATIONS[unit] for number, unit in pieces))

    def done(self) -> None:
        if isinstance(self.content, dict):
            for key in self.content:
                if key not in self._asked:
                    self.fail(f"unknown key {key!r}; there are: {', '.join(sorted(self._asked))}")


def _kind(found: object) -> str:
    return "a mapping" if isinstance(found, dict) else "a list" if isinstance(found, list) else repr(found)


def _number(text: object, where: str) -> float:
    for kind in (lambda word: int(word, 0), float):
        try:
            found: float = kind(str(text))
        except (ValueError, OverflowError):
            continue
        if abs(found) <= 1 << 64:  # not so for nan
            return found
    raise EncodeError(f"{where}: a number is needed, not {_kind(text)}")


def _named(key: str, content: object, index: int) -> str:
    name = content.get("name") if isinstance(content, dict) else None
    return f"{key.removesuffix('s')} {name}" if isinstance(name, str) else f"{key}[{index}]"


def _name(node: _Node, pattern: re.Pattern[str] = NAME) -> str:
    name = node.text("name")
    if not pattern.match(name):
        node.fail(f"{name!r} cannot be a name in Prometheus: letters, digits and _")
    return name


def _metric(node: _Node, kind: str) -> Source:
    name, perf, labels = _name(node), node.flag("perf_event_array"), _labels(node)
    help_, interval, values = node.text("help", ""), node.duration("flush_interval", 3600.0), node.nodes("values")
    if perf and (values or kind != "counter"):
        node.fail("records of a perf buffer are counted: perf_event_array is for counters without values")
    if interval <= 0:
        node.fail("flush_interval: it must be more than 0")
    families = []
    for index, each in enumerate(values):
        families.append(Family(kind, _name(each), each.text("help", ""), index))
        each.done()
    node.done()
    numbers = tuple(Number(8 * index) for index in range(max(1, len(values))))
    return Source(
        name,
        labels,
        numbers,
        tuple(families) or (Family(kind, name, help_),),
        "perf" if perf else "map",
        interval,
    )


def _span(node: _Node) -> SpanSource:
    ring = node.text("ringbuf")
    made = SpanSource(ring, node.text("name", ring), node.text("service", ""), _labels(node, ATTRIBUTE))
    node.done()
    if not made.labels:
        node.fail("labels: a span needs at least one, since they describe its record")
    return made


def _histogram(node: _Node) -> Source:
    kind = node.text("bucket_type")
    if kind not in BUCKETS:
        node.fail(f"bucket_type: {kind!r} is not one of {', '.join(BUCKETS)}")
    keys = tuple(_number(each.content, each.where) for each in node.nodes("bucket_keys"))
    low, high = node.whole("bucket_min", 0), node.whole("bucket_max", 0 if kind == "fixed" else None)
    buckets = Buckets(kind, low, high, node.number("bucket_multiplier", 1) or 1.0, keys)
    name, help_, labels = _name(node), node.text("help", ""), _labels(node)
    node.done()
    check_buckets(buckets, node.where)
    if not labels:
        node.fail("labels: a histogram needs at least one: the last one is the bucket")
    return Source(name, labels, (Number(),), (Family("histogram", name, help_, buckets=buckets),))


def check_buckets(made: Buckets, where: str) -> None:
    """Raises EncodeError for buckets that cannot be."""
    if made.type == "fixed":
        if not made.keys:
            raise EncodeError(f"{where}: bucket_keys: it is missing")
        if len(made.keys) > MOST_BUCKETS or any(a >= b for a, b in zip(made.keys, made.keys[1:], strict=False)):
            raise EncodeError(f"{where}: bucket_keys: they must grow, and be {MOST_BUCKETS} at most")
    elif not 0 < made.max - made.min <= MOST_BUCKETS or made.min < 0:
        raise EncodeError(
            f"{where}: bucket_max must be above bucket_min, by {MOST_BUCKETS} at most: they are {made.max} and {made.min}"
        )
    elif made.type != "linear" and made.max > MOST_BUCKETS:
        raise EncodeError(f"{where}: bucket_max: 2 to the power of {made.max} is too large for a number")
    if not made.multiplier > 0:
        raise EncodeError(f"{where}: bucket_multiplier: it must be more than 0")


def _labels(node: _Node, pattern: re.Pattern[str] = LABEL) -> tuple[Label, ...]:
    made = []
    for each in node.nodes("labels"):
        size, padding = each.whole("size"), each.whole("padding", 0)
        if not 0 < size <= 1 << 16 or not 0 <= padding <= 1 << 16:
            each.fail(f"size and padding are bytes of the key: they are {size} and {padding}")
        decoders = tuple(_decoder(part) for part in each.nodes("decoders"))
        if not decoders:
            each.fail("decoders: a label needs one at least")
        expires = each.text("expires", "")
        if expires not in ("", "process", "cgroup"):
            each.fail(f"expires: it is process or cgroup, not {expires!r}")
        if not expires and decoders[-1].name == "cgroup":
            expires = "cgroup"
        made.append(Label(_name(each, pattern), size, decoders, padding, expires))
        each.done()
    names = [label.name for label in made]
    for name in names:
        if names.count(name) > 1:
            node.fail(f"two labels are called {name!r}")
    return tuple(made)


def _decoder(node: _Node) -> Decoder:
    name = node.text("name")
    if name not in DECODERS:
        import difflib

        near = difflib.get_close_matches(name, DECODERS, 1)
        node.fail(
            f"unknown decoder {name!r}{f': {near[0]}?' if near else ''} (known are {', '.join(sorted(DECODERS))})"
        )
    table = node.node("static_map")
    static_map = None
    if table.content is not None:
        if not isinstance(table.content, dict) or not all(isinstance(each, str) for each in table.content.values()):
            raise EncodeError(f"{table.where}: a mapping of words to words is needed here")
        static_map = {str(key): str(value) for key, value in table.content.items()}
    made = Decoder(name, static_map, node.patterns("regexps"), node.flag("allow_unknown"))
    if node.whole("skip_cache_size", 0) < 0:  # no effect: KeyDecoder keeps what it left out together with what it made
        node.fail("skip_cache_size: it is a number of labels")
    if name == "static_map" and static_map is None:
        node.fail("static_map: it is missing")
    if name == "regexp" and not made.regexps:
        node.fail("regexps: they are missing")
    node.done()
    return made


def _cgroup_id_map(node: _Node) -> CgroupIdMap:
    made = CgroupIdMap(node.text("name"), node.text("type", "hash"), node.patterns("regexps"))
    if made.type not in ("hash", "cgrp_storage"):
        node.fail(f"type: it is hash or cgrp_storage, not {made.type!r}")
    node.done()
    return made
