"""Maps that one program alone may use (BPF_MAP_CREATE with excl_prog_hash, Linux 6.18)."""

from __future__ import annotations

from bpf2py.errors import MapCreateError, NotSupported
from bpf2py.spec.map_spec import MapSpec
from bpf2py.uapi.errno import E2BIG, EINVAL

__all__ = ["DIGEST_SIZE", "EXCLUSIVE_SINCE", "exclusive_digest", "no_exclusive_maps"]

DIGEST_SIZE = 32  # SHA-256
EXCLUSIVE_SINCE = "6.18"


def exclusive_digest(spec: MapSpec) -> bytes:
    """The hash of the program that may use a map, empty where all may. Raises MapCreateError."""
    given = spec.exclusive
    if given is None:
        return b""
    if isinstance(given, str):
        raise MapCreateError(
            f"map {spec.name}: create: exclusive is the name of a program, {given!r}, and this map belongs to no object; give the "
            "hash of the program's instructions (Program.digest)",
            errno=EINVAL,
            command="BPF_MAP_CREATE",
        )
    if len(given) != DIGEST_SIZE:
        raise MapCreateError(
            f"map {spec.name}: create: exclusive is a SHA-256 hash of {DIGEST_SIZE} bytes, {len(given)} are given",
            errno=EINVAL,
            command="BPF_MAP_CREATE",
        )
    return bytes(given)


def no_exclusive_maps(what: str, kernel: str) -> NotSupported:
    """The error of kernels without them."""
    return NotSupported(
        f"{what}: maps of one program alone (exclusive) came with Linux {EXCLUSIVE_SINCE}, this is {kernel}",
        feature="exclusive maps",
        since=EXCLUSIVE_SINCE,
        errno=E2BIG,
        command="BPF_MAP_CREATE",
    )
