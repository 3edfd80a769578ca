"""The ``vmlinux.h`` a source includes: the running kernel's types as C, made when a source asks for it.

A whole one holds some ten thousand types and costs the compiler ten times what the source does, so a source first gets
only the types that its identifiers reach.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from bpf2py.errors import NotSupported
from bpf2py.toolchain.cache import digest, file_digest
from bpf2py.user_cache import read_file, write_atomically

__all__ = ["header_text", "kernel_identity", "write_header"]

BTF_PATH = "/sys/kernel/btf/vmlinux"
_NOTES_PATH = "/sys/kernel/notes"

# What bpf2py's own headers use of a vmlinux.h without the source having to say so.
OWN_ROOTS = frozenset(
    [f"{prefix}{sign}{bits}" for prefix in ("", "__") for sign in "us" for bits in (8, 16, 32, 64)]
    + ["__be16", "__be32", "__be64", "__wsum", "bool", "size_t", "pt_regs", "user_pt_regs", "bpf_iter_num"]
)


def kernel_identity() -> str:
    """What tells this kernel's types from another kernel's, without reading them all.

    Raises:
        NotSupported: the kernel offers no BTF (since 5.4, with CONFIG_DEBUG_INFO_BTF).
    """
    try:
        size = os.stat(BTF_PATH).st_size
    except OSError:
        raise NotSupported(
            f'the source includes "vmlinux.h", but there is no {BTF_PATH} to make it from: put a vmlinux.h beside the '
            "source (bpf2py vmlinux > vmlinux.h on a machine that has it), or run a kernel built with "
            "CONFIG_DEBUG_INFO_BTF=y",
            feature="kernel BTF",
            since="5.4",
        ) from None
    notes = file_digest(_NOTES_PATH)  # holds the build id
    return f"{size} {notes if notes is not None else file_digest(BTF_PATH)}"


def reached_roots(identifiers: Iterable[str]) -> frozenset[str]:
    """The names whose types a source with these identifiers needs."""
    from bpf2py.isa.helpers import HELPERS_BY_NAME

    roots = set(identifiers) | OWN_ROOTS
    for word in tuple(roots):
        helper = HELPERS_BY_NAME.get(word.removeprefix("bpf_")) if word.startswith("bpf_") else None
        if helper is not None:  # the source may use what the helper returns without naming its type
            roots.update(helper.returns.replace("*", " ").split())
    return frozenset(roots)


def header_text(roots: frozenset[str] | None = None, kfuncs: frozenset[str] = frozenset()) -> str:
    """The header: whole, or only what `roots` reach; without the prototypes of `kfuncs`, which the source declares itself.

    Raises:
        NotSupported: the kernel offers no BTF.
    """
    kernel_identity()
    from bpf2py.btf.cdump import vmlinux_header

    text: str = vmlinux_header(roots, kfuncs)
    if "__VMLINUX_H__" not in text:  # bpf_tracing.h goes by it to name the registers
        text = f"#ifndef __VMLINUX_H__\n#define __VMLINUX_H__\n{text}\n#endif\n"
    return text


def _end(text: bytes) -> bytes:
    """The last line of a header that was kept: by it one that was cut short is told from a whole one."""
    return f"/* end of {digest([text])} */\n".encode()


def write_header(
    directory: Path,
    roots: frozenset[str] | None = None,
    *,
    kfuncs: frozenset[str] = frozenset(),
    fallback: Path | None = None,
) -> Path:
    """The directory to put on the search path; below `directory`, where a header made earlier is found again.

    Args:
        directory: where to write.
        roots: the names whose types are wanted; None for all.
        kfuncs: kernel functions whose prototypes are not wanted.
        fallback: where to write when `directory` is not writable.

    Raises:
        NotSupported: the kernel offers no BTF.
        OSError: neither place is writable.
    """
    wanted = "whole" if roots is None else "\n".join(sorted(roots))
    key = digest([kernel_identity(), wanted, *sorted(kfuncs)])
    known = read_file(directory / key / "vmlinux.h", own=True)
    if known is not None and known.endswith(_end(known[: -len(_end(b""))])):
        return directory / key
    text = header_text(roots, kfuncs).encode()
    text += _end(text)
    for place in (directory, fallback):
        if place is not None and write_atomically(place / key / "vmlinux.h", text):
            return place / key
    raise OSError(f"cannot write {directory / key / 'vmlinux.h'}")
