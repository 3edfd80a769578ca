"""What the engine does not have, said in the same words everywhere."""

from __future__ import annotations

from bpf2py.errors import NotSupported

__all__ = ["no_pins"]


def no_pins(what: str) -> NotSupported:
    """The exception for pinning something, or opening a pin."""
    return NotSupported(
        f"{what}: the engine has no BPF file system; keep the Map, Program, Link or Engine instead",
        feature="BPF_OBJ_PIN",
    )
