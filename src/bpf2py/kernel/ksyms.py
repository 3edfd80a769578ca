"""Kernel symbols: addresses and names from /proc/kallsyms, variables and functions from BTF."""

from __future__ import annotations

from functools import cache

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING, NamedTuple
from bpf2py.btf.reader import Btf
from bpf2py.btf.types import Kind
from bpf2py.btf.vmlinux import vmlinux
from bpf2py.errors import NotSupported
from bpf2py.kernel.btf import btf_fd_of_module, modules

if TYPE_CHECKING:
    from bpf2py.symbols import kernel as symbols
    from bpf2py.symbols.kernel import KernelSymbols
else:
    symbols = module("bpf2py.symbols.kernel")


class KernelSymbol(NamedTuple):
    """A kernel function or variable.

    Attributes:
        name: its name.
        module: the module it belongs to, or an empty string.
        offset: of the address asked for, in bytes from its start.
    """

    name: str
    module: str
    offset: int

    def __str__(self) -> str:
        return f"{self.name}+{self.offset:#x}" + (f" [{self.module}]" if self.module else "")


@cache
def _symbols() -> KernelSymbols:
    """The table, read once in a process."""
    return symbols.KernelSymbols()


def ksym(address: int) -> KernelSymbol | None:
    """The kernel function an address lies in; None when it is none, or addresses are hidden (kernel.kptr_restrict).

    Reads /proc/kallsyms once in a process, and again for addresses that came later. `bpf2py.symbols` names many at once, and those
    of processes.
    """
    found = _symbols().at(address)
    return KernelSymbol(*found) if found is not None else None


def ksym_address(name: str) -> int | None:
    """The address of a kernel symbol, None when there is none or addresses are hidden."""
    try:
        with open("/proc/kallsyms") as file:
            for line in file:
                address, _, rest = line.split(" ", 2)
                if rest.split("\t", 1)[0].rstrip("\n") == name:
                    return int(address, 16) or None
    except OSError:
        pass
    return None


class BtfSymbol(NamedTuple):
    """A function or variable in the kernel's BTF: its type id there, and a descriptor of the module's BTF (0: vmlinux)."""

    btf: Btf
    type_id: int
    fd: int


def btf_symbol(name: str, kind: Kind) -> BtfSymbol | None:
    """A FUNC or VAR of vmlinux or of a loaded module; None when there is none."""
    try:
        base = vmlinux()
    except NotSupported:
        return None
    for type_id in base.ids_by_name(name):
        if base.kind(type_id) == kind:
            return BtfSymbol(base, type_id, 0)
    for btf in modules():
        for type_id in btf.ids_by_name(name):
            if type_id >= btf.start_id and btf.kind(type_id) == kind:
                return BtfSymbol(btf, type_id, btf_fd_of_module(btf.name))
    return None
