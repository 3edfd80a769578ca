"""What a program says while it runs: records of its ring and perf buffers, bpf_printk() lines, its output streams."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

from bpf2py._typing import TYPE_CHECKING, Any, NamedTuple
from bpf2py.btf.codec import BytesCodec, Codec
from bpf2py.btf.codec_for import codec_for
from bpf2py.cli.render import cell, to_json
from bpf2py.errors import BpfError, EncodeError
from bpf2py.kernel.trace_pipe import TracePipe
from bpf2py.printable import printable
from bpf2py.readers.perf import PerfReader
from bpf2py.readers.ring import RingReader
from bpf2py.spec.dwarf import variable_structs
from bpf2py.spec.record_types import RecordTypes, calls, named_structs, record_types
from bpf2py.uapi.map_types import MapType

if TYPE_CHECKING:
    from bpf2py.object import Object
    from bpf2py.spec.object_spec import ObjectSpec

__all__ = ["Saying", "Sources", "record_codecs"]

TRACE_PRINTK, TRACE_VPRINTK = 6, 177
PERF_OUTPUTS = {25, 111, 121}  # bpf_perf_event_output, bpf_skb_output, bpf_xdp_output
_STREAM = "bpf_stream_vprintk"


class Saying(NamedTuple):
    """Something a program said.

    Attributes:
        label: the map, or what else it came through.
        text: for people.
        fields: for programs.
    """

    label: str
    text: str
    fields: dict[str, Any]

    def line(self) -> str:
        """A line that is safe to print."""
        return f"{printable(self.label)}: {self.text}"


class RecordCodecs(NamedTuple):
    """How the records of a map are decoded.

    Attributes:
        own: the type of all of them, when the map says it or the user chose it.
        by_size: else by their size.
        unclear: names of types that fit equally well.
    """

    own: Codec[Any] | None
    by_size: Mapping[int, Codec[Any]]
    unclear: list[str]

    def codec(self, length: int, padded: bool) -> Codec[Any] | None:
        """For a record of so many bytes; perf buffers pad them, so that with a u32 before it is a multiple of 8."""
        if self.own is not None:
            return self.own
        if not padded:
            return self.by_size.get(length)
        return next((codec for size, codec in self.by_size.items() if (size + 11) // 8 * 8 - 4 == length), None)


def record_codecs(spec: ObjectSpec, data: bytes, chosen: Mapping[str, str]) -> Callable[[Any], RecordCodecs]:
    """How to decode the records of an object's maps.

    Args:
        spec: the object.
        data: its file, for debug information.
        chosen: names of types by map; under an empty name that of all maps.
    """
    found = record_types(spec, data)

    def codecs(bpf_map: Any) -> RecordCodecs:
        name = chosen.get(bpf_map.name, chosen.get(""))
        if name is not None:
            return RecordCodecs(_named(spec, data, bpf_map, name), {}, [])
        map_spec = bpf_map.spec
        if map_spec is not None and map_spec.btf is not None and map_spec.value_type_id:
            own = codec_for(map_spec.btf, map_spec.value_type_id)
            return RecordCodecs(None if isinstance(own, BytesCodec) else own, {}, [])
        types = found.get(bpf_map.name, RecordTypes({}, []))
        return RecordCodecs(None, types.by_size, types.unclear)

    return codecs


def _named(spec: ObjectSpec, data: bytes, bpf_map: Any, name: str) -> Codec[Any]:
    """A type by its name, from the object's BTF or its debug information. Raises BpfError with the names there are."""
    try:
        codec: Codec[Any] = bpf_map.codec_named(name)
        return codec
    except EncodeError:
        variables = variable_structs(data, spec.name)
    bare = name.removeprefix("struct ").removeprefix("union ").strip()
    if variables is not None and bare in variables[1]:
        return codec_for(variables[0], variables[1][bare])
    names = set(variables[1]) if variables is not None else set()
    if spec.types is not None:
        names |= set(named_structs(spec.types))
    there = ", ".join(sorted(names)) or "none; compile it with -g"
    raise BpfError(f"--type {name}: {spec.name} has no such type; there are: {there}")


class Sources:
    """Everything an object's programs say, taken by one thread; a context manager.

    Attributes:
        warnings: what cannot be followed, and why.
        lost: records that found no room, by map; perf buffers alone count them.
    """

    def __init__(self, obj: Object, codecs: Callable[[Any], RecordCodecs]) -> None:
        self.obj = obj
        self.warnings: list[str] = []
        self.lost: dict[str, int] = {}
        self._readers: list[tuple[str, Any, RecordCodecs, bool]] = []
        self._pipe: Any = None
        self._prints = False  # to the engine's list of lines
        self._printed = 0
        self._streams = [
            program
            for program in obj.programs.values()
            if obj.backend.name == "kernel" and any(name.startswith(_STREAM) for name in obj.spec.externs)
        ]
        self._resources = ExitStack()
        helpers = calls(obj.spec)
        try:
            for bpf_map in obj.maps.values():
                self._open(bpf_map, codecs, helpers)
            if helpers & {TRACE_PRINTK, TRACE_VPRINTK}:
                self._open_pipe()
        except BaseException:
            self.close()
            raise

    def _open(self, bpf_map: Any, codecs: Callable[[Any], RecordCodecs], helpers: set[int]) -> None:
        perf = bpf_map.type == MapType.PERF_EVENT_ARRAY
        if bpf_map.type != MapType.RINGBUF and not (perf and helpers & PERF_OUTPUTS):
            return
        found = codecs(bpf_map)
        if found.unclear:
            names = ", ".join(found.unclear)
            self.warnings.append(
                f"records of {bpf_map.name} are shown as bytes: they may be any of {names}; choose with --type {bpf_map.name}=NAME"
            )
        try:
            reader: Any = PerfReader(bpf_map) if perf else RingReader(bpf_map)
        except BpfError as error:
            self.warnings.append(f"events of map {bpf_map.name} are not shown: {error}")
            return
        self._resources.callback(reader.close)
        self._readers.append((bpf_map.name, reader, found, perf))

    def _open_pipe(self) -> None:
        if self.obj.backend.name != "kernel":
            self._prints, self._printed = True, self._engine_lines()
            return
        try:
            self._pipe = TracePipe()
        except (BpfError, OSError) as error:
            self.warnings.append(f"bpf_printk() lines are not shown: {error}")
            return
        self._resources.callback(self._pipe.close)

    def _engine_lines(self) -> int:
        trace = getattr(self.obj.backend, "trace", [])
        return len(trace) + int(getattr(trace, "dropped", 0))

    def wait(self, others: list[int], seconds: float) -> list[int]:
        """Wait until something was said or one of the other descriptors is readable; those of them that are.

        At most 0.1 s where what is said cannot be waited for.
        """
        poll = select.poll()
        sources = [source for _, reader, _, _ in self._readers for source in reader._sources]
        for fd in (*others, *(source.fileno() for source in sources)):
            poll.register(fd, select.POLLIN)
        if self._pipe is not None:
            poll.register(self._pipe.fileno(), select.POLLIN)
        if self._streams or self._pipe is not None or self._prints:
            seconds = min(seconds, 0.1)
        ready = {fd for fd, _ in poll.poll(int(seconds * 1000 + 0.999))}
        for source in sources:
            source.acknowledge()
        return [fd for fd in others if fd in ready]

    def take(self) -> Iterator[Saying]:
        """What was said since the last call."""
        for name, reader, found, perf in self._readers:
            for batch in reader.flush():
                if batch.lost:
                    self.lost[name] = self.lost.get(name, 0) + batch.lost
                    yield Saying(
                        name, f"{batch.lost} records were lost: the buffer was full", {"map": name, "lost": batch.lost}
                    )
                for record in batch.records():
                    yield self._record(name, record, found, perf, batch.cpu)
        if self._pipe is not None:
            for line in self._pipe.read():
                yield _printed(line)
        if self._prints:
            yield from self._engine_printed()
        for program in self._streams:
            yield from self._said(program, 1, "stdout")

    def _record(self, name: str, record: Any, found: RecordCodecs, perf: bool, cpu: int | None) -> Saying:
        fields: dict[str, Any] = {"map": name} if cpu is None else {"map": name, "cpu": cpu}
        codec = found.codec(len(record), perf)
        if codec is not None:
            try:
                value = codec.decode(record if getattr(codec, "flexible", None) else record[: codec.size])
                return Saying(name, cell(value), fields | {"type": codec.name, "event": to_json(value)})
            except (EncodeError, ValueError):
                pass  # a shorter record than the type says: its bytes are the truth
        raw = bytes(record)
        return Saying(name, cell(raw), fields | {"type": None, "event": raw.hex()})

    def _engine_printed(self) -> Iterator[Saying]:
        trace = getattr(self.obj.backend, "trace", [])
        total = self._engine_lines()
        new = total - self._printed
        self._printed = total
        for text in trace[len(trace) - new :] if new else []:
            yield Saying("printk", printable(text), {"printk": text})

    def last(self) -> Iterator[Saying]:
        """At the end: what is left, and what the kernel says of faults (stream 2, Linux 6.17)."""
        yield from self.take()
        if self.obj.backend.name != "kernel":
            return
        for program in self.obj.programs.values():
            yield from self._said(program, 2, "stderr")

    def _said(self, program: Any, number: int, stream: str) -> Iterator[Saying]:
        try:
            text = program.stream(number).decode("utf-8", "replace")
        except BpfError:
            return  # an older kernel
        for line in text.splitlines():
            fields = {"program": program.name, "stream": stream, "text": line}
            yield Saying(f"{program.name} {stream}", printable(line, keep="\t"), fields)

    def close(self) -> None:
        """Close all buffers; closing twice is harmless."""
        self._resources.close()

    def __enter__(self) -> Sources:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _printed(line: Any) -> Saying:
    if line.lost:
        return Saying("printk", f"{line.lost} lines were lost", {"printk": None, "cpu": line.cpu, "lost": line.lost})
    return Saying(
        "printk",
        f"{printable(line.task)}-{line.pid} [{line.cpu:03}] {line.seconds:.6f}: {printable(line.text)}",
        {"printk": line.text, "task": line.task, "pid": line.pid, "cpu": line.cpu, "seconds": line.seconds},
    )
