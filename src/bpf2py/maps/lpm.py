"""LPM_TRIE: the longest matching prefix, Linux 4.11."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.btf.codec import Codec
from bpf2py.errors import EncodeError
from bpf2py.maps import batch
from bpf2py.maps.base import V
from bpf2py.maps.mapping import MappingMap
from bpf2py.spec.map_spec import MapSpec

if TYPE_CHECKING:
    from bpf2py.seam.protocol import MapHandle

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
_NETWORKS = (ipaddress.IPv4Network, ipaddress.IPv6Network)
_INTERFACES = (ipaddress.IPv4Interface, ipaddress.IPv6Interface)
_ADDRESSES = (ipaddress.IPv4Address, ipaddress.IPv6Address)


class LpmKeyCodec(Codec[Any]):
    """struct bpf_lpm_trie_key: a 32-bit prefix length in host order, then the data, most significant byte first.

    Data of 4 or 16 bytes are IP networks (an interface where bits beyond the prefix are set); other sizes are pairs
    (prefix length, bytes). Encodes networks, addresses (all bits), their text, pairs, and whatever the BTF type takes.
    """

    __slots__ = ("btf_codec", "data_size")

    def __init__(self, size: int, btf_codec: Codec[Any] | None = None) -> None:
        self.data_size = size - 4
        self.btf_codec = btf_codec
        super().__init__(
            {4: "IPv4 network", 16: "IPv6 network"}.get(self.data_size, f"prefix of {self.data_size} bytes"), size
        )

    def encode(self, value: object) -> bytes:
        if isinstance(value, str):
            try:
                value = ipaddress.ip_interface(value)
            except ValueError as error:
                raise EncodeError(str(error)) from None
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], bytes | bytearray):
            length, data = value
            if not isinstance(length, int) or not 0 <= length <= self.data_size * 8:
                raise EncodeError(f"prefix length {length!r} is not 0..{self.data_size * 8}")
            if len(data) > self.data_size:
                raise EncodeError(f"{len(data)} bytes given, the key has {self.data_size}")
            return int(length).to_bytes(4, "little") + bytes(data).ljust(self.data_size, b"\0")
        if isinstance(value, _INTERFACES):
            return self._pack(value.network.prefixlen, value.ip.packed, value)
        if isinstance(value, _NETWORKS):
            return self._pack(value.prefixlen, value.network_address.packed, value)
        if isinstance(value, _ADDRESSES):
            return self._pack(value.max_prefixlen, value.packed, value)
        if self.btf_codec is not None and not isinstance(value, int):
            return self.btf_codec.encode(value)
        if isinstance(value, bytes | bytearray) and len(value) == self.size:
            return bytes(value)
        raise EncodeError(f"{value!r} is not a network, address or pair (prefix length, bytes)")

    def _pack(self, length: int, data: bytes, value: object) -> bytes:
        if len(data) != self.data_size:
            raise EncodeError(f"{value} has {len(data)} bytes, the key has {self.data_size}")
        return length.to_bytes(4, "little") + data

    def decode(self, data: bytes | bytearray | memoryview) -> Any:
        length, rest = int.from_bytes(data[:4], "little"), bytes(data[4:])
        if self.data_size not in (4, 16) or length > self.data_size * 8:
            return length, rest
        interface = ipaddress.ip_interface((rest, length))
        network = interface.network
        return network if network.network_address == interface.ip else interface


class LpmTrieMap(MappingMap[Any, V]):
    """A trie of prefixes: a lookup finds the longest one that matches.

    Keys are `ipaddress` networks where the data has 4 or 16 bytes, else pairs (prefix length, bytes); a lookup takes an
    address too, meaning all its bits. `get`, ``[]`` and ``in`` match by longest prefix, deleting and updating mean
    exactly the prefix given.

    Example:
        >>> routes["10.0.0.0/8"] = 1; routes["10.1.2.3"]      # doctest: +SKIP
        1
    """

    def __init__(
        self, handle: MapHandle, name: str, key: Codec[Any], value: Codec[V], spec: MapSpec | None = None
    ) -> None:
        super().__init__(handle, name, LpmKeyCodec(handle.info.key_size, key), value, spec)

    def _chunks(self, delete: bool = False, small: bool = False) -> Iterator[batch.Chunk]:
        # Its batch commands restart at the first key when theirs was deleted: only the walk yields no key twice.
        self.fileno()
        raise batch.BatchUnsupported
