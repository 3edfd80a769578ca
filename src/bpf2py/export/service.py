"""`Exporter`: the programs of several configs and annotated objects, and how they are taken anew while it runs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bpf2py.backends import BackendChoice
from bpf2py.errors import BpfError, EncodeError
from bpf2py.export.annotations import annotated
from bpf2py.export.check import Problem, problems
from bpf2py.export.config import Config, read_config
from bpf2py.export.decoders import Decoders
from bpf2py.export.expiry import Expiry
from bpf2py.export.exported import Exported, failed_to_attach, program_beside, read_program
from bpf2py.export.spans import SpanSink
from bpf2py.spec.object_spec import ObjectSpec

__all__ = ["Exporter", "check"]


class _Loaded(NamedTuple):
    exported: Exported
    digest: bytes


def _read(path: Path) -> tuple[Config, ObjectSpec, bytes]:
    if path.suffix in (".yaml", ".yml"):
        config = read_config(path)
        spec, data = read_program(program_beside(path))
    else:
        spec, data = read_program([path])
        config = annotated(spec, str(path))
    return config, spec, hashlib.sha256(data).digest()


def check(path: str | os.PathLike[str]) -> list[Problem]:
    """What of a config file, or of an object's annotations, does not fit the object. Loads nothing.

    Raises EncodeError for what is wrong with the file itself, CompileError, ObjectError, OSError.
    """
    config, spec, _ = _read(Path(path))
    return list(problems(config, spec))


class Exporter:
    """Programs and what is exported of them; a context manager.

    Args:
        paths: config files (``.yaml``, with their program beside them), sources or objects with annotations.
        pin: directory of a BPF file system where the counted maps are pinned: the next exporter goes on with them.
        cache: labels of so many keys are kept, for each metric.
        expire_after: seconds after which elements of processes and cgroups that are gone are removed; None for never.
        sink: where spans go; without one they are not read.

    Raises what reading and loading them raises; programs that cannot be attached are not fatal.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        backend: BackendChoice = None,
        *,
        pin: str | os.PathLike[str] | None = None,
        cache: int = 100_000,
        expire_after: float | None = None,
        sink: SpanSink | None = None,
    ) -> None:
        self._paths = [Path(path) for path in paths]
        self._backend = backend
        self._pin = pin
        self._cache = cache
        self._expire_after = expire_after
        self._sink = sink
        self._decoders = Decoders()
        self._loaded: dict[Path, _Loaded] = {}
        self._started = False
        try:
            for path in self._paths:
                config, spec, digest = _read(path)
                self._check_names(path, config)
                self._loaded[path] = _Loaded(self._load(config, spec), digest)
        except BaseException:
            self.close()
            raise

    @property
    def exported(self) -> list[Exported]:
        """What runs."""
        return [each.exported for each in self._loaded.values()]

    def _check_names(self, path: Path, config: Config) -> None:
        """Raises EncodeError where another config has the same name, or a metric of the same name."""
        others = [each.exported.config for other, each in self._loaded.items() if other != path]
        if any(config.name == other.name for other in others):
            raise EncodeError(f"{path}: there is a config {config.name} already")
        taken = {name: other.name for other in others for name in _names(other)}
        for name in _names(config):
            if name in taken:
                raise EncodeError(f"{path}: config {taken[name]} has a metric {name} already")

    def _load(self, config: Config, spec: ObjectSpec, before: Exported | None = None) -> Exported:
        decoders = Decoders(self._decoders.names)
        expiry = before.expiry if before is not None else None
        if expiry is None and self._expire_after is not None:
            expiry = Expiry(self._expire_after, decoders.names.cgroups)
        return Exported(
            config,
            spec,
            self._backend,
            decoders=decoders,
            pin=self._pin,
            cache=self._cache,
            expiry=expiry,
            before=before,
            sink=self._sink,
        )

    def run(self) -> None:
        """Start the threads that take records: with the capabilities of the caller."""
        self._started = True
        for exported in self.exported:
            exported.run()

    def reload(self) -> list[str]:
        """Read all files again, and go on with them: counts go on where a map is the same. What was wrong, a line each.

        Where only the config changed, its program runs on. Another program takes over maps of the same name and kind; between the
        former one's end and its start nothing is counted. A file that is wrong changes nothing.
        """
        wrong = []
        for path in self._paths:
            before = self._loaded[path]
            try:
                config, spec, digest = _read(path)
                self._check_names(path, config)
                if digest == before.digest:
                    before.exported.use(config)
                    continue
                made = self._load(config, spec, before.exported)
            except (BpfError, OSError) as error:
                wrong.append(f"{path}: {error}")
                continue
            self._loaded[path] = _Loaded(made, digest)
            before.exported.close()
            if self._started:
                made.run()
        return wrong

    def unattached(self) -> list[str]:
        """Lines about programs that are not attached, and spans that are not read."""
        lines = [line for exported in self.exported for line in failed_to_attach(exported)]
        for exported in self.exported:
            if exported.config.spans and self._sink is None:
                lines.append(f"config {exported.config.name}: its spans go nowhere: give --otlp URL")
        return lines

    def problems(self) -> list[str]:
        """What is wrong with the exporter itself, a line each: for ``/healthz``."""
        return [line for exported in self.exported for line in exported.failures]

    def close(self) -> None:
        """Detach and close all."""
        for exported in self.exported:
            exported.close()
        self._loaded.clear()
        if self._sink is not None:
            self._sink.close()

    def __enter__(self) -> Exporter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _names(config: Config) -> list[str]:
    return [config.prefix + family.name for source in config.sources for family in source.families]
