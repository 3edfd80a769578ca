"""`Exported`: an object that is loaded and attached, and read as its config says."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import bpf2py
from bpf2py.backends import BackendChoice
from bpf2py.errors import CompilerNotFound, EncodeError, MapIncompatible, NotSupported
from bpf2py.export import hooks
from bpf2py.export.cgroup_map import CgroupMap
from bpf2py.export.check import PER_CPU, problems
from bpf2py.export.config import Config, Source
from bpf2py.export.decoders import Decoders, KeyDecoder
from bpf2py.export.expiry import Expiry
from bpf2py.export.perf_counter import PerfCounter
from bpf2py.export.reading import elements
from bpf2py.export.spans import SpanReader, SpanSink
from bpf2py.kernel.ksyms import ksym_address
from bpf2py.loader import check_compatible
from bpf2py.loading import ObjectOptions
from bpf2py.maps.base import AnyMap
from bpf2py.object import Object
from bpf2py.spec.map_spec import Pinning
from bpf2py.spec.object_spec import ObjectSpec, object_name
from bpf2py.toolchain.compiler import compile

__all__ = ["Exported", "Sets", "failed_to_attach", "program_beside", "read_program"]

Sets = dict[tuple[str, ...], list[int]]
ENDINGS = (".bpf.c", ".bpf.o", ".bpf.py")


def program_beside(config: str | os.PathLike[str]) -> list[Path]:
    """The program of FILE.yaml: FILE.bpf.c, FILE.bpf.o or FILE.bpf.py beside it, those that are there. Raises FileNotFoundError."""
    path = Path(config)
    stem = path.name.removesuffix(".yml").removesuffix(".yaml")
    found = [path.with_name(stem + ending) for ending in ENDINGS if path.with_name(stem + ending).exists()]
    if not found:
        raise FileNotFoundError(2, f"there is no program {stem}.bpf.c or {stem}.bpf.o beside the config", str(path))
    return found


def read_program(paths: list[Path]) -> tuple[ObjectSpec, bytes]:
    """(spec, object file) of the first that can be read: a source needs a compiler.

    Raises CompileError, CompilerNotFound, ObjectError, OSError.
    """
    for path in paths:
        try:
            data = compile(path) if path.suffix in (".c", ".py") else path.read_bytes()
        except CompilerNotFound:
            if path == paths[-1]:
                raise
            continue
        return ObjectSpec.from_bytes(data, object_name(path)), data
    raise FileNotFoundError(2, "no program was given")


class Exported:
    """A program with its metrics: loaded, attached, and closed as a context manager.

    Attributes:
        attached: by program that has a hook: None, or why it is not attached.
        decode_errors: keys and records whose labels could not be decoded.
    """

    def __init__(
        self,
        config: Config,
        spec: ObjectSpec,
        backend: BackendChoice = None,
        *,
        decoders: Decoders | None = None,
        pin: str | os.PathLike[str] | None = None,
        cache: int = 100_000,
        expiry: Expiry | None = None,
        before: Exported | None = None,
        sink: SpanSink | None = None,
    ) -> None:
        self.decoders = decoders or Decoders()
        self.decode_errors = 0
        self.attached: dict[str, str | None] = {}
        self.expiry = expiry
        self._cache = cache
        self._perf: dict[str, PerfCounter] = {}
        self.spans: list[SpanReader] = []
        self.sink = sink
        self._cgroups: CgroupMap | None = None
        self.config = config
        self._keys = self._decoders_of(config)
        spec = spec.copy()
        self._check(config, spec)
        for name in config.kaddrs:
            address = ksym_address(name)
            if address is None:
                raise NotSupported(
                    f"kaddrs: {name}: /proc/kallsyms has no address of it: kernel.kptr_restrict hides them, and variables "
                    "are there with CONFIG_KALLSYMS_ALL",
                    feature="kaddrs",
                )
            spec.variables[f"kaddr_{name}"].value = address
        hooks.prepare(spec)
        counted = {source.map for source in config.sources if source.kind == "map"}
        options: ObjectOptions = {"maps": _usable(before, counted, spec)}
        if pin is not None:
            directory = Path(pin) / config.name
            directory.mkdir(parents=True, exist_ok=True)
            for name in counted:
                spec.maps[name].pinning = Pinning.BY_NAME
            options["pin_path"] = str(directory)
        self.obj: Object = bpf2py.load(spec, backend, **options)
        try:
            self._start(before)
        except BaseException:
            self.close()
            raise

    def _check(self, config: Config, spec: ObjectSpec) -> None:
        fatal = [str(problem) for problem in problems(config, spec) if problem.fatal]
        if fatal:
            raise EncodeError(f"config {config.name} does not fit the object: {'; '.join(fatal)}")

    def _decoders_of(self, config: Config) -> dict[str, KeyDecoder]:
        names = self.decoders.names  # which several threads may use; the rest is each one's own
        return {each.map: KeyDecoder(Decoders(names), each.labels, self._cache) for each in config.sources}

    def _start(self, before: Exported | None) -> None:
        config = self.config
        if config.cgroup_id_map is not None:
            self._cgroups = CgroupMap(
                self.obj.maps[config.cgroup_id_map.name], config.cgroup_id_map, self.decoders.names.cgroups
            )
            self._cgroups.update()
        for source in config.sources:
            if source.kind == "perf":
                keys = self._keys[source.map]
                self._perf[source.map] = PerfCounter(self.obj.maps[source.map], keys, source.flush_interval)
        for span in config.spans if self.sink is not None else ():
            assert self.sink is not None
            keys = KeyDecoder(Decoders(self.decoders.names), span.labels, most=2)
            self.spans.append(SpanReader(self.obj.maps[span.ringbuf], span, keys, self.sink))
        if before is not None:  # from here on nothing fails
            before._stop_counting()
            for source in config.sources:
                if source.map in before._perf and source in before.config.sources:
                    self._perf[source.map].take_over(before._perf[source.map])
        self.attached = hooks.attach(self.obj)

    def run(self) -> None:
        """Start the threads: they have the capabilities of the one that calls this."""
        if self._cgroups is not None:
            self._cgroups.start()
        for thread in self._threads:
            thread.start()

    def _stop_counting(self) -> None:
        """Detach, and take the last records of perf buffers."""
        for link in self.obj.links:
            link.close()
        for thread in self._threads:
            thread.stop()

    def use(self, config: Config) -> None:
        """Go on with another config of the same program. Raises EncodeError, and keeps the former one, where it does not fit."""
        self._check(config, self.obj.spec)
        for attribute in ("kaddrs", "cgroup_id_map", "spans"):
            if getattr(config, attribute) != getattr(self.config, attribute):
                raise EncodeError(f"config {config.name}: to change {attribute}, restart the exporter")
        perf = [[source for source in each.sources if source.kind == "perf"] for each in (self.config, config)]
        if perf[0] != perf[1]:
            raise EncodeError(f"config {config.name}: to change perf_event_array counters, restart the exporter")
        keys = self._decoders_of(config)
        for name in self._perf:
            keys[name] = self._perf[name].keys
        self.config, self._keys = config, keys

    # -- reading -----------------------------------------------------------------------------------------------------

    def read(self, source: Source) -> Sets:
        """Numbers by labels, those of the same labels added. Keys whose labels cannot be decoded are left out, and counted."""
        if source.kind == "perf":
            return {labels: [count] for labels, count in self._perf[source.map].read().items()}
        if source.kind == "variable":
            found = self.obj.variables[source.map].value
            return {(): [int(each) for each in found] if len(source.numbers) > 1 else [int(found)]}
        bpf_map, keys, sets = self.obj.maps[source.map], self._keys[source.map], Sets()
        expiring = self.expiry.reading(source, bpf_map, keys) if self.expiry is not None else None
        for key, numbers in self._elements(source, bpf_map):
            try:
                labels = keys.labels(key)
            except EncodeError:
                self.decode_errors += 1
                continue
            if labels is None:
                continue
            if expiring is not None:
                expiring.look_at(key)
            sums = sets.get(labels)
            if sums is None:
                sets[labels] = list(numbers)
            else:
                for index, number in enumerate(numbers):
                    sums[index] += number
        if expiring is not None:
            expiring.finish(sets)
        return sets

    def _elements(self, source: Source, bpf_map: AnyMap) -> Iterator[tuple[bytes, tuple[int, ...]]]:
        by_cpu = bpf_map.type in PER_CPU and bool(source.labels) and source.labels[-1].name == "cpu"
        for key, numbers in elements(bpf_map, source.numbers, by_cpu):
            if by_cpu and len(source.labels) == 1:
                yield key[-2:], numbers
            elif source.labels or not any(key):  # without labels it is the element with the key 0
                yield key, numbers

    @property
    def _threads(self) -> list[PerfCounter | SpanReader]:
        return [*self._perf.values(), *self.spans]

    @property
    def lost(self) -> dict[str, int]:
        """Records of perf buffers that were not counted, by counter."""
        return {name: counter.lost + counter.dropped for name, counter in self._perf.items()}

    @property
    def undecoded(self) -> int:
        """Keys and records whose labels could not be decoded."""
        return self.decode_errors + sum(thread.undecoded for thread in self._threads)

    @property
    def failures(self) -> list[str]:
        """Errors that ended a thread which should have kept running."""
        return [f"{thread.name}: {thread.failed}" for thread in self._threads if thread.failed]

    # -- life --------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Detach and close all. Pinned maps stay."""
        if self._cgroups is not None:
            self._cgroups.stop()
        for thread in self._threads:
            thread.stop()
        self.obj.close()

    def __enter__(self) -> Exported:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _usable(before: Exported | None, names: set[str], spec: ObjectSpec) -> Mapping[str, AnyMap]:
    """Maps of the former object that can go on being counted in."""
    found = {}
    for name in names if before is not None else ():
        assert before is not None
        former = before.obj.maps.get(name)
        if former is not None:
            try:
                check_compatible(spec.maps[name], former._handle)
            except MapIncompatible:
                continue
            found[name] = former
    return found


def failed_to_attach(exported: Exported) -> Iterator[str]:
    """Lines for people about programs that are not attached."""
    for program, reason in exported.attached.items():
        if reason is not None:
            yield f"config {exported.config.name}: program {program} is not attached: {reason}"
