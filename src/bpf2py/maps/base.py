"""`Map`: what all map types have in common."""

from __future__ import annotations

import os
from _weakref import ref

from bpf2py._lazy import import_module, module
from bpf2py._typing import TYPE_CHECKING, Any, Generic, TypeVar, overload
from bpf2py.backends import BackendChoice, resolve_backend
from bpf2py.btf.codec import BytesCodec, Codec, CodecOptions, IntCodec
from bpf2py.btf.codec_for import codec_for
from bpf2py.errors import BtfError, ClosedError, EncodeError, MapIncompatible, NotSupported
from bpf2py.maps.classes import class_home
from bpf2py.owned import Finalizer, Owned
from bpf2py.seam.info import MapInfo, spec_of
from bpf2py.spec.map_spec import MapSpec
from bpf2py.uapi.limits import names_limits
from bpf2py.uapi.map_types import MapFlags, MapType, UpdateFlags, map_type, map_type_named, type_info, type_name

if TYPE_CHECKING:
    import contextlib
    import warnings
    from collections.abc import Callable, Iterable
    from typing import Self, TypedDict, Unpack

    from bpf2py.btf import declare
    from bpf2py.btf.declare import TypeName
    from bpf2py.maps import errors as map_errors
    from bpf2py.maps import histogram
    from bpf2py.maps.histogram import Histogram
    from bpf2py.seam.protocol import Backend, MapHandle, MapSlot
    from bpf2py.uapi import pins
else:
    pins = module("bpf2py.uapi.pins")
    contextlib = module("contextlib")
    warnings = module("warnings")
    declare = module("bpf2py.btf.declare")
    histogram = module("bpf2py.maps.histogram")
    map_errors = module("bpf2py.maps.errors")

K = TypeVar("K")
V = TypeVar("V")
S = TypeVar("S")

if TYPE_CHECKING:

    class PinOptions(TypedDict, total=False):
        """Options of `Map.from_pin`."""

        key: TypeName | None
        value: TypeName | None
        read_only: bool
        backend: BackendChoice


_MODE = MapFlags.RDONLY | MapFlags.WRONLY
ANY, NOEXIST, EXIST, LOCK = UpdateFlags.ANY, UpdateFlags.NOEXIST, UpdateFlags.EXIST, UpdateFlags.LOCK


class _ClosedSlots(list["MapSlot"]):
    """Stands for the slots of a closed map: empty, and stays so."""

    def append(self, slot: MapSlot, /) -> None:
        pass


FIRST_CALLS = 8  # operations before a map is made quick


class _FirstCalls:
    """Stands for the calls of a map that few operations were made with: what makes many of them quicker takes a moment itself."""

    __slots__ = ("_left", "_map")

    def __init__(self, bpf_map: Map[Any, Any]) -> None:
        self._map = ref(bpf_map)
        self._left = FIRST_CALLS

    def __call__(self, *_: object) -> None:
        self._left -= 1
        bpf_map = self._map() if self._left == 0 else None
        if bpf_map is not None:
            bpf_map._hasten()


class Map(Owned, Generic[K, V]):
    """A BPF map. Which operations there are depends on the type: see the subclasses.

    Keys and values are Python values of their BTF types (see `bpf2py.btf.codec`), bytes where no type is known.
    A map is a context manager; closing it closes this process's descriptor; the kernel keeps the map as long as programs, pins or
    other descriptors use it.

    Attributes:
        name: name in the object (the kernel keeps 15 characters of it).
        key_codec: translates keys.
        value_codec: translates values.
    """

    def __init__(
        self, handle: MapHandle, name: str, key: Codec[K], value: Codec[V], spec: MapSpec | None = None
    ) -> None:
        self.name = name
        self.spec = spec
        self.key_codec = key
        self.value_codec = value
        self._handle = handle
        self._info = handle.info
        if spec is not None and spec.flags & _MODE:
            # The kernel keeps these two with the descriptor and leaves them out of what it tells about the map.
            handle.info = self._info = self._info._replace(flags=self._info.flags | int(spec.flags & _MODE))
        self._slots: list[MapSlot] = []
        self._encode_key = key.encode_into
        self._encode_value = value.encode_into
        self._decode_key = key.decode
        self._decode_value = value.decode
        self._finalizer = Finalizer(
            self, handle.close
        )  # at exit the kernel closes it: a daemon thread may still be using it

    _by_calls = False  # whether this class has elements for which `MapHandle.element_calls` does all there is to do
    _hastened = False
    _lookup_call: Callable[[object], int | None] | None = None  # as long as the map is open
    _update_call: Callable[[object, object], bool | None] | None = None
    _delete_call: Callable[[object], bool | None] | None = None

    # -- facts ---------------------------------------------------------------------------------------------------

    @property
    def info(self) -> MapInfo:
        """Facts as the backend tells them: id, sizes, flags."""
        return self._info

    @property
    def type(self) -> MapType | int:
        """The map type."""
        return map_type(self._info.type)

    @property
    def id(self) -> int:
        """The kernel's id of the map."""
        return self._info.id

    @property
    def key_size(self) -> int:
        """Bytes of a key."""
        return self._info.key_size

    @property
    def value_size(self) -> int:
        """Bytes of a value (of one CPU's, in per-CPU maps)."""
        return self._info.value_size

    @property
    def max_entries(self) -> int:
        """Most elements the map takes; bytes for rings."""
        return self._info.max_entries

    @property
    def flags(self) -> MapFlags:
        """BPF_F_* flags the map was created with."""
        return MapFlags(self._info.flags)

    def fileno(self) -> int:
        """The map's descriptor. Raises ClosedError."""
        if self.closed:
            raise ClosedError(f"map {self.name}: the map is closed")
        return self._handle.fd

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return not self._finalizer.alive

    def codec_named(self, type: TypeName) -> Codec[Any]:
        """The codec of a type of the map's object, or of a basic C type, by its name. Raises EncodeError."""
        btf = self.spec.btf if self.spec is not None else None
        try:
            return declare.codec_of(type, btf=btf)
        except EncodeError as error:
            raise EncodeError(f"map {self.name}: {error.message}") from None

    # -- life ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give up the descriptor; closing twice is harmless."""
        self._slots = _ClosedSlots()
        self._lookup_call = self._update_call = self._delete_call = None
        self._finalizer()
        # Again: another thread may have been in the middle of `_hasten`.
        self._lookup_call = self._update_call = self._delete_call = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def pin(self, path: str | os.PathLike[str]) -> None:
        """Pin to a file of the BPF file system, so that the map outlives the process; `Map.from_pin(path)` opens it (Linux 4.4).

        Raises FileExistsError, or BpfError when the place is not on a bpffs.
        """
        path = pins.pin_path(path, f"map {self.name}: pin")
        if os.path.lexists(path):
            raise FileExistsError(f"map {self.name}: pin: {path} exists")
        self.fileno()
        self._check("pin", self._handle.pin(path))

    def unpin(self, path: str | os.PathLike[str]) -> None:
        """Remove a pin of this map; the map itself goes with its last user.

        Raises FileNotFoundError when nothing is there, MapIncompatible when another map is pinned there.
        """
        path = pins.pin_path(path, f"map {self.name}: unpin")
        if not os.path.lexists(path):
            raise FileNotFoundError(2, f"map {self.name}: unpin: nothing is pinned", path)
        with contextlib.closing(self._handle.opened_at(path)) as pinned:
            if pinned.info.id != self.id:
                raise MapIncompatible(
                    f"map {self.name}: unpin: {path} pins map {pinned.info.name} (id {pinned.info.id}), not this one"
                )
        os.unlink(path)

    def freeze(self) -> None:
        """Make the map read-only for user space, for good; programs may still write (Linux 5.2)."""
        self.fileno()
        self._check("freeze", self._handle.freeze())

    def __repr__(self) -> str:
        state = " closed" if self.closed else ""
        return (
            f"<{type_name(self._info.type)} map {self.name}: {self.key_codec.name} -> {self.value_codec.name}, "
            f"max_entries={self.max_entries}{state}>"
        )

    # -- one element ---------------------------------------------------------------------------------------------

    def _slot(self) -> MapSlot:
        try:
            return self._slots.pop()
        except IndexError:
            if self.closed:
                raise ClosedError(f"map {self.name}: the map is closed") from None
            slot = self._handle.slot()
            # A number is stored and loaded through a typed view, in a third of the time a codec takes.
            if type(self.key_codec) is IntCodec and self.key_codec.size == len(slot.key):
                slot.key_view = memoryview(slot.key).cast(self.key_codec.leaf)  # type: ignore[call-overload]
            if type(self.value_codec) is IntCodec and self.value_codec.size == len(slot.value):
                slot.value_view = memoryview(slot.value).cast(self.value_codec.leaf)  # type: ignore[call-overload]
            if self._lookup_call is None and not self._hastened:
                self._lookup_call = self._update_call = self._delete_call = _FirstCalls(self)
            elif self._hastened:
                slot.hasten()
            return slot

    def _hasten(self) -> None:
        """Make single operations as quick as they can be."""
        self._hastened = True
        for slot in [*self._slots]:
            slot.hasten()
        calls = None
        if self._by_calls and type(self.key_codec) is type(self.value_codec) is IntCodec:
            calls = self._handle.element_calls(self.key_codec.leaf, self.value_codec.leaf)
        self._lookup_call, self._update_call, self._delete_call = calls or (None, None, None)
        if self.closed:  # by another thread meanwhile
            self._lookup_call = self._update_call = self._delete_call = None

    def _check(self, operation: str, result: int, key: object = None, flags: int = 0) -> None:
        if result < 0:
            raise map_errors.map_error(self.name, self._info, operation, -result, key, flags)

    def _put_key(self, slot: MapSlot, key: Any, operation: str) -> None:
        try:
            self._encode_key(slot.key, key)
        except EncodeError as error:
            raise EncodeError(f"map {self.name}: {operation}: key: {error.message}") from None

    def _put_value(self, slot: MapSlot, value: Any, operation: str) -> None:
        try:
            self._encode_value(slot.value, value)
        except EncodeError as error:
            colon = "" if error.message.startswith((".", "[")) else ": "
            raise EncodeError(f"map {self.name}: {operation}: value{colon}{error.message}") from None

    def _lookup(self, key: Any, flags: int = 0) -> V:
        if flags:
            return self._lookup_with(key, flags)
        call = self._lookup_call
        if call is not None:
            found: Any = call(key)
            if found is not None and found is not False:
                return found  # type: ignore[no-any-return]
        try:
            slot = self._slots.pop()
        except IndexError:
            slot = self._slot()
        try:
            try:
                slot.key_view[0] = key
            except (TypeError, ValueError):  # no plain integer key, or one out of range
                self._put_key(slot, key, "lookup")
            if slot.fast_lookup():
                self._check("lookup", slot.lookup(), key)
            view = slot.value_view
            return self._decode_value(slot.value) if view is None else view[0]
        finally:
            self._slots.append(slot)

    def _lookup_with(self, key: Any, flags: int) -> V:
        slot = self._slot()
        try:
            self._put_key(slot, key, "lookup")
            self._check("lookup", slot.lookup(flags), key, flags)
            return self._decode_value(slot.value)
        finally:
            self._slots.append(slot)

    def _update(self, key: Any, value: Any, flags: int = 0) -> None:
        call = self._update_call
        if call is not None and not flags and call(key, value):
            return
        try:
            slot = self._slots.pop()
        except IndexError:
            slot = self._slot()
        try:
            try:
                slot.key_view[0] = key
            except (TypeError, ValueError):
                self._put_key(slot, key, "update")
            try:
                slot.value_view[0] = value
            except (TypeError, ValueError):
                self._put_value(slot, value, "update")
            if flags:
                self._check("update", slot.update(flags), key, flags)
            elif slot.fast_update():
                self._check("update", slot.update(), key)
        finally:
            self._slots.append(slot)

    def _delete(self, key: Any) -> None:
        call = self._delete_call
        if call is not None and call(key):
            return
        slot = self._slot()
        try:
            self._put_key(slot, key, "delete")
            result = slot.delete()
            if result:
                raise map_errors.map_error(self.name, self._info, "delete", -result, key)
        finally:
            self._slots.append(slot)

    def _pairs(self) -> Iterable[tuple[K, V]]:
        """All (key, value) pairs, for types that have them."""
        raise NotSupported(
            f"map {self.name}: {type_name(self._info.type)} maps have no keys and values to list", feature="items"
        )

    # -- histograms ----------------------------------------------------------------------------------------------

    @overload
    def log2_hist(
        self, unit: str = "value", *, section: None = None, value: Callable[[V], int] | None = None
    ) -> Histogram: ...
    @overload
    def log2_hist(
        self, unit: str = "value", *, section: Callable[[K], tuple[S, int]], value: Callable[[V], int] | None = None
    ) -> dict[S, Histogram]: ...
    def log2_hist(
        self,
        unit: str = "value",
        *,
        section: Callable[[K], tuple[S, int]] | None = None,
        value: Callable[[V], int] | None = None,
    ) -> Histogram | dict[S, Histogram]:
        """The map as a histogram of powers of two: slot (index or key) i counts values from 2**i on.

        Args:
            unit: what the values measure, for the heading.
            section: for keys that are structs: a function from key to (section, slot); a dict of histograms is returned.
            value: a function from an element's value to its count; default: the integer, summed over CPUs.

        Returns:
            A `bpf2py.maps.histogram.Histogram`: data in `buckets`, text by str(), a table for rich.
        """
        return histogram.histograms(self.name, self._pairs(), histogram.log2_buckets, unit, section, value)

    @overload
    def linear_hist(
        self,
        unit: str = "value",
        *,
        step: int = 1,
        start: int = 0,
        section: None = None,
        value: Callable[[V], int] | None = None,
    ) -> Histogram: ...
    @overload
    def linear_hist(
        self,
        unit: str = "value",
        *,
        step: int = 1,
        start: int = 0,
        section: Callable[[K], tuple[S, int]],
        value: Callable[[V], int] | None = None,
    ) -> dict[S, Histogram]: ...
    def linear_hist(
        self,
        unit: str = "value",
        *,
        step: int = 1,
        start: int = 0,
        section: Callable[[K], tuple[S, int]] | None = None,
        value: Callable[[V], int] | None = None,
    ) -> Histogram | dict[S, Histogram]:
        """The map as a histogram of equal steps: slot i counts values from ``start + i * step`` on; see `log2_hist`."""
        return histogram.histograms(
            self.name, self._pairs(), lambda counts: histogram.linear_buckets(counts, step, start), unit, section, value
        )

    # -- making maps ---------------------------------------------------------------------------------------------

    @staticmethod
    @names_limits
    def create(
        type: MapType | int | str,
        key_size: int | None = None,
        value_size: int | None = None,
        max_entries: int = 0,
        flags: MapFlags | int = 0,
        *,
        name: str = "",
        key: TypeName | None = None,
        value: TypeName | None = None,
        map_extra: int = 0,
        numa_node: int | None = None,
        inner: MapSpec | None = None,
        exclusive: bytes | None = None,
        backend: BackendChoice = None,
    ) -> AnyMap:
        """Create a map without an object.

        Args:
            type: the map type, or its name.
            key_size, value_size: bytes; taken from `key` and `value` where these are given.
            max_entries: elements (bytes for rings).
            flags: BPF_F_* flags.
            name: at most 15 characters are kept by the kernel.
            key, value: types: C names such as ``"u32"``, ``"char[16]"``, or a codec; bytes without.
            map_extra: see `MapSpec`.
            numa_node: node the memory comes from.
            inner: definition of the inner maps of ARRAY_OF_MAPS and HASH_OF_MAPS.
            exclusive: hash of the one program that may use the map (`Program.digest`; Linux 6.18).
            backend: as for `bpf2py.load`.

        Returns:
            The `Map` subclass for the type.

        Raises:
            MapCreateError: a field is not what this type allows; PermissionDenied, NotSupported.
            EncodeError: a size is not a number.

        Example:
            >>> counts = Map.create(MapType.HASH, key="u32", value="u64", max_entries=1003)   # doctest: +SKIP
        """
        kind = map_type_named(type) if isinstance(type, str) else type
        facts = type_info(kind)
        for what, number in (("key_size", key_size), ("value_size", value_size), ("max_entries", max_entries)):
            if number is not None and not isinstance(number, int):
                raise EncodeError(
                    f"map {name or type_name(kind).lower()}: create: {what} is a number, not {number!r}; types are given by name: "
                    'key="u32", value="u64"'
                )
        key_codec = declare.codec_of(key, CodecOptions(key=True)) if key is not None else None
        value_codec = declare.codec_of(value) if value is not None else None
        if key_size is None:
            key_size = key_codec.size if key_codec is not None else facts.key_size or 0
        if value_size is None:
            value_size = (
                value_codec.size if value_codec is not None and facts.value_size is None else facts.value_size or 0
            )
        spec = MapSpec(
            name or type_name(kind).lower(),
            kind,
            key_size,
            value_size,
            max_entries,
            flags,
            map_extra=map_extra,
            numa_node=numa_node,
            key=key_codec,
            value=value_codec,
            inner=inner,
            exclusive=exclusive,
        )
        if numa_node is not None:
            spec.flags |= MapFlags.NUMA_NODE
        found = resolve_backend(backend)
        inner_handle = found.create_map(inner) if inner is not None else None
        try:
            handle = found.create_map(spec, inner_handle)
        finally:
            if inner_handle is not None:
                inner_handle.close()
        return wrap(handle, spec)

    @staticmethod
    @names_limits
    def from_pin(
        path: str | os.PathLike[str],
        *,
        key: TypeName | None = None,
        value: TypeName | None = None,
        read_only: bool = False,
        backend: BackendChoice = None,
    ) -> AnyMap:
        """Open a pinned map; typed by its BTF, or by `key` and `value` (Linux 4.4).

        With `read_only` only for looking at it (BPF_F_RDONLY, Linux 4.15), as a pin of mode 0444 lets other users.

        Raises BpfOSError (errno ENOENT) when nothing is pinned there, PermissionDenied without the right.
        """
        found = resolve_backend(backend)
        return _adopt(found, found.open_map_pin(os.fspath(path), read_only), key, value)

    @staticmethod
    def open(path: str | os.PathLike[str], **options: Unpack[PinOptions]) -> AnyMap:
        """Former name of `from_pin`."""
        warnings.warn("Map.open() is called Map.from_pin() now", DeprecationWarning, stacklevel=2)
        return Map.from_pin(path, **options)

    @staticmethod
    @names_limits
    def from_id(
        ident: int,
        *,
        key: TypeName | None = None,
        value: TypeName | None = None,
        read_only: bool = False,
        backend: BackendChoice = None,
    ) -> AnyMap:
        """Open the map with this id (Linux 4.13, CAP_SYS_ADMIN); typed by its BTF, or by `key` and `value`; see `from_pin`."""
        found = resolve_backend(backend)
        return _adopt(found, found.open_map_id(pins.object_id(ident, "map"), read_only), key, value)

    @staticmethod
    @names_limits
    def from_fd(
        fd: int, *, key: TypeName | None = None, value: TypeName | None = None, backend: BackendChoice = None
    ) -> AnyMap:
        """Use a map another part of the program opened; the descriptor is duplicated, the caller keeps its own."""
        found = resolve_backend(backend)
        return _adopt(found, found.open_map_fd(fd), key, value)


if TYPE_CHECKING:

    class AnyMap(Map[Any, Any], Any):  # type: ignore[misc]
        """A map whose family follows from an object file or the kernel: type checkers let it do what any map can."""

else:
    AnyMap = Map


def _adopt(backend: Backend, handle: MapHandle, key: TypeName | None, value: TypeName | None) -> AnyMap:
    try:
        spec = spec_of(handle.info, backend.map_btf(handle.info))
        spec.key = declare.codec_of(key, CodecOptions(key=True), spec.btf) if key is not None else None
        spec.value = declare.codec_of(value, btf=spec.btf) if value is not None else None
        return wrap(handle, spec)
    except BaseException:
        handle.close()
        raise


def wrap(handle: MapHandle, spec: MapSpec, options: CodecOptions | None = None) -> AnyMap:
    """The `Map` subclass for a handle, with the codecs the spec says."""
    options = options if options is not None else CodecOptions()
    key_codec, value_codec = key_codec_of(spec, options), value_codec_of(spec, options)
    home, name = class_home(handle.info.type)
    cls: type[Map[Any, Any]] = getattr(import_module(f"bpf2py.maps.{home}"), name)
    for what, codec, size in (("key", key_codec, handle.info.key_size), ("value", value_codec, handle.info.value_size)):
        if codec.size != size and size:
            handle.close()
            raise EncodeError(f"map {spec.name}: the {what} type {codec.name} has {codec.size} bytes, the map's {size}")
    made: AnyMap = cls(handle, spec.name, key_codec, value_codec, spec)  # type: ignore[assignment]
    return made


def key_codec_of(spec: MapSpec, options: CodecOptions) -> Codec[Any]:
    """The codec of a map's keys."""
    if spec.key is not None:
        return spec.key
    if type_info(spec.type).key == "index":
        return IntCodec("index", 4, signed=False)
    return _typed(spec, spec.key_type_id, spec.key_size, options._replace(key=True))


def value_codec_of(spec: MapSpec, options: CodecOptions) -> Codec[Any]:
    """The codec of a map's values (of one CPU's, in per-CPU maps)."""
    if spec.value is not None:
        return spec.value
    return _typed(spec, spec.value_type_id, spec.value_size, options)


def _typed(spec: MapSpec, type_id: int, size: int, options: CodecOptions) -> Codec[Any]:
    if spec.btf is not None and type_id:
        try:
            codec = codec_for(spec.btf, type_id, options)
        except BtfError:
            return BytesCodec(size)
        if codec.size == size or size == 0:
            return codec
    return BytesCodec(size)
