"""The decoders of ebpf_exporter's config files, as a table: what each takes, and what its text is where a name is not known.

Source of facts: the decoders of cloudflare/ebpf_exporter 2.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["DECODERS", "DecoderFacts"]


class DecoderFacts(NamedTuple):
    """What is known of a decoder.

    Attributes:
        takes: ``"bytes"`` of the key, a ``"number"`` as text (what ``uint`` made), or ``"text"``.
        sizes: numbers of bytes it takes; empty for any.
        least: bytes at least; what follows is not looked at.
        unit: its bytes are a multiple of this.
        unknown: the text for what has no name: ``{}`` is the input.
        passing: the name may be another one later: it is not kept.
    """

    takes: str
    sizes: tuple[int, ...] = ()
    least: int = 0
    unit: int = 1
    unknown: str = ""
    passing: bool = False


DECODERS: dict[str, DecoderFacts] = {
    "cgroup": DecoderFacts("number", unknown="unknown_cgroup_id:{}"),
    "dname": DecoderFacts("text"),
    "errno": DecoderFacts("number", unknown="unknown:{}"),
    "hex": DecoderFacts("bytes"),
    "ifname": DecoderFacts("bytes", least=4, unknown="unknown:{}", passing=True),
    "inet_ip": DecoderFacts("bytes", sizes=(4, 16)),
    "int": DecoderFacts("bytes", sizes=(1, 2, 4, 8)),  # bpf2py's own
    "kstack": DecoderFacts("bytes", unit=8, unknown="??"),
    "ksym": DecoderFacts("bytes", least=8, unknown="unknown_addr:{}"),
    "lbr": DecoderFacts("bytes", unit=24, unknown="??"),
    "majorminor": DecoderFacts("bytes", least=4, unknown="unknown:{}:{}", passing=True),
    "pci_class": DecoderFacts("number", unknown="unknown pci class: 0x{}"),
    "pci_device": DecoderFacts("number", unknown="unknown pci device: 0x{}"),
    "pci_subclass": DecoderFacts("number", unknown="unknown pci subclass: 0x{} (class 0x{})"),
    "pci_vendor": DecoderFacts("number", unknown="unknown pci vendor: 0x{}"),
    "regexp": DecoderFacts("text"),
    "static_map": DecoderFacts("text", unknown="unknown:{}"),
    "string": DecoderFacts("bytes"),
    "syscall": DecoderFacts("number", unknown="unknown_syscall:{}"),
    "uint": DecoderFacts("bytes", sizes=(1, 2, 4, 8)),
}
NO_PCI_IDS = "missing pci.ids db"
PCI_IDS = ("/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids")
