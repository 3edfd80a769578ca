"""BTF in and out of the kernel: the object's types loaded, vmlinux' and modules' read, attach targets found."""

from __future__ import annotations

import ctypes
import os
import struct
from functools import cache

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING
from bpf2py.btf.reader import HEADER, Btf
from bpf2py.btf.types import DataSec, Enum, Fwd, Kind, Ref, Var
from bpf2py.errors import BtfError, NotSupported
from bpf2py.kernel.objects import ids, object_info, open_id
from bpf2py.kernel.syscall import BPF_F_TOKEN_FD, Fd, address_of_bytes, bpf_open, check
from bpf2py.uapi.commands import Command

if TYPE_CHECKING:
    import warnings

    from bpf2py.btf import vmlinux as kernel_types
    from bpf2py.linker.core import CoreTarget
    from bpf2py.spec.object_spec import ObjectSpec
else:
    warnings = module("warnings")
    kernel_types = module("bpf2py.btf.vmlinux")

_LOG_SIZE = 1 << 20  # it lists every type before the wrong one


def modules() -> tuple[Btf, ...]:
    """The BTF of all modules that are loaded now, split on vmlinux; a damaged one is skipped with a warning."""
    try:
        names = sorted(os.listdir("/sys/kernel/btf"))
    except OSError:
        return ()
    found = (module_btf(name) for name in names if name != "vmlinux")
    return tuple(btf for btf in found if btf is not None)


VMLINUX = "vmlinux"  # stands for the kernel itself where a module's name may stand


@cache
def module_btf(name: str) -> Btf | None:
    """The types of a loaded module; None, with a warning, where they cannot be read."""
    try:
        with open(f"/sys/kernel/btf/{name}", "rb") as file:
            return Btf(file.read(), kernel_types.vmlinux(), name)
    except (OSError, BtfError) as error:
        warnings.warn(f"BTF of module {name} is skipped: {error}", RuntimeWarning, stacklevel=3)
        return None


_module_fds: dict[str, Fd] = {}


def btf_fd_of_module(name: str) -> int:
    """A descriptor of a loaded module's BTF, opened once and kept for the process. Raises BtfError when it cannot be had."""
    if name not in _module_fds:
        for ident in ids(Command.BTF_GET_NEXT_ID):
            owner = open_id(Command.BTF_GET_FD_BY_ID, ident)
            if not isinstance(owner, Fd):
                continue
            text = ctypes.create_string_buffer(64)
            # struct bpf_btf_info: name and name_len come after btf, btf_size and id.
            object_info(owner.number, 32, struct.pack("<QIIQI", 0, 0, 0, ctypes.addressof(text), 64))
            if text.value.decode("ascii", "replace") == name:
                _module_fds[name] = owner
                break
    if name not in _module_fds:
        raise BtfError(f"the BTF of module {name} cannot be opened")
    return _module_fds[name].number


@cache
def core_target() -> CoreTarget:
    """The running kernel as the target of CO-RE relocations."""
    from bpf2py.linker.core import CoreTarget

    try:
        return CoreTarget(kernel_types.vmlinux(), modules)
    except NotSupported:
        return CoreTarget(None)


# How to find what a program attaches to: the prefix of the BTF name and its kind, by attach type name.
_PREFIXES = {
    "TRACE_RAW_TP": ("btf_trace_", Kind.TYPEDEF),
    "LSM_MAC": ("bpf_lsm_", Kind.FUNC),
    "LSM_CGROUP": ("bpf_lsm_", Kind.FUNC),
    "TRACE_ITER": ("bpf_iter_", Kind.FUNC),
}


def attach_btf_id(attach_type: str, target: str) -> tuple[int, int]:
    """(BTF type id, BTF object fd or 0 for vmlinux) of a program's attach target.

    Args:
        attach_type: its name.
        target: in the kernel or, if it is not there, in a module (Linux 5.12); ``module:name`` is in that module.

    Raises BtfError when there is no such function or tracepoint.
    """
    prefix, kind = _PREFIXES.get(attach_type, ("", Kind.FUNC))
    module, _, name = target.rpartition(":")
    if module in ("", VMLINUX):
        try:
            return kernel_types.vmlinux().find(prefix + name, kind), 0
        except BtfError:
            pass
    known = [btf for btf in modules() if module in ("", btf.name)]
    for btf in known:
        own = [i for i in btf.ids_by_name(prefix + name) if i >= btf.start_id and btf.kind(i) == kind]
        if own:
            return own[0], btf_fd_of_module(btf.name)
    if module not in ("", VMLINUX) and not known:
        raise BtfError(f"module {module!r} is not loaded, or has no BTF")
    what = {"btf_trace_": "tracepoint", "bpf_lsm_": "LSM hook", "bpf_iter_": "iterator"}.get(prefix, "function")
    raise BtfError(f"the kernel has no {what} {target!r} in its BTF")


class LoadedBtf:
    """What maps and programs of an object share: its BTF in the kernel (`fd` is 0 when there is none), and a BPF token."""

    __slots__ = ("_fd", "_token", "btf", "warning")

    def __init__(self, fd: Fd | None, btf: Btf | None, warning: str = "", token: Fd | None = None) -> None:
        self._fd = fd
        self._token = token
        self.btf = btf
        self.warning = warning

    @property
    def fd(self) -> int:
        """The descriptor's number, or 0."""
        return self._fd.number if self._fd is not None and not self._fd.closed else 0

    @property
    def token_fd(self) -> int:
        """The token's descriptor, or 0."""
        return self._token.number if self._token is not None and not self._token.closed else 0

    def close(self) -> None:
        """Close the descriptors; maps and programs keep the BTF alive."""
        for owner in (self._fd, self._token):
            if owner is not None:
                owner.close()


def load_object_btf(spec: ObjectSpec, token: Fd | None = None) -> LoadedBtf:
    """BPF_BTF_LOAD of an object's types, adapted to what kernels accept.

    A kernel that refuses them is not a failure yet: maps and programs work without, as far as they do not need types.
    """
    if spec.types is None:
        return LoadedBtf(None, None, token=token)
    reason = ""
    for old_kernel in (False, True):
        data = kernel_form(spec, old_kernel)
        result, log = _load(data, token.number if token is not None else 0)
        if isinstance(result, Fd):
            return LoadedBtf(result, spec.types, token=token)
        reason = reason or _refusal(log) or os.strerror(-result)
    return LoadedBtf(None, spec.types, f"the kernel refused the object's BTF: {reason}", token)


def _refusal(log: str) -> str:
    """The last line of a log, with the type it is about where it is one of a type's rows."""
    lines = [line for line in log.splitlines() if line.strip()]
    if not lines:
        return ""
    owner = next((line for line in reversed(lines) if line.startswith("[")), "") if lines[-1][0].isspace() else ""
    return f"{owner}: {lines[-1].strip()}" if owner else lines[-1]


def _load(data: bytes, token_fd: int) -> tuple[Fd | int, str]:
    flags = BPF_F_TOKEN_FD if token_fd else 0
    attr = struct.pack("<QQIIIIIi", address_of_bytes(data), 0, len(data), 0, 0, 0, flags, token_fd)
    result = bpf_open(Command.BTF_LOAD, attr)
    if isinstance(result, Fd):
        return result, ""
    log = ctypes.create_string_buffer(_LOG_SIZE)
    attr = struct.pack(
        "<QQIIIIIi", address_of_bytes(data), ctypes.addressof(log), len(data), _LOG_SIZE, 1, 0, flags, token_fd
    )
    retried = bpf_open(Command.BTF_LOAD, attr)  # a log that does not fit gives ENOSPC
    return (retried if isinstance(retried, Fd) else result), log.value.decode("utf-8", "replace")


_CHANGED = (Kind.DATASEC, Kind.VAR, Kind.FUNC)


def kernel_form(spec: ObjectSpec, old_kernel: bool = False) -> bytes:
    """The object's BTF with what kernels refuse replaced by records of the same length, so that ids and offsets stay.

    Externs become plain types; functions hidden from other files become static; with `old_kernel` also the kinds that
    came after Linux 5.10 are replaced by ones that have always been there.
    """
    btf = spec.types
    assert btf is not None
    data = bytearray(btf.data)
    _, _, _, hdr_len, type_off, _, _, _ = HEADER.unpack_from(data)
    base = hdr_len + type_off
    statics = {f.type_id for f in spec.functions.values() if f.is_static and f.type_id}
    integer = next((i for i in btf.ids_of_kind(Kind.INT) if btf.size_of(i) == 4), 0)
    for type_id in range(btf.start_id, len(btf)):
        at = base + btf.record_offset(type_id)
        if not old_kernel and data[at + 7] & 0x1F not in _CHANGED:
            continue  # most types stay as they are, and need not be decoded
        name_off, info = struct.unpack_from("<II", data, at)
        kind_word = info & 0x1F000000
        btf_type = btf.type(type_id)
        if isinstance(btf_type, DataSec):
            if btf_type.name in (".ksyms", ".kconfig"):
                # A union of the same length: extern entries are not variables of this object.
                struct.pack_into("<III", data, at, 0, info & 0xFFFF | Kind.UNION << 24, 4)
                for i in range(len(btf_type.variables)):
                    struct.pack_into("<III", data, at + 12 + 12 * i, 0, integer, 0)
            elif old_kernel and not btf_type.size:
                struct.pack_into("<I", data, at + 8, 1)
        elif isinstance(btf_type, Var):
            if btf_type.linkage == 2:
                struct.pack_into("<I", data, at + 12, 1)
                target = btf.resolved(btf_type.type_id)
                if target.kind in (Kind.VOID, Kind.FUNC_PROTO) or isinstance(target, Fwd):
                    struct.pack_into("<I", data, at + 8, integer)
        elif isinstance(btf_type, Ref) and btf_type.kind == Kind.FUNC:
            if btf_type.linkage == 2:
                struct.pack_into("<II", data, at, name_off, Kind.TYPEDEF << 24)
            elif btf_type.linkage == 1 and type_id in statics:
                struct.pack_into("<I", data, at + 4, kind_word)
        if old_kernel:
            _downgrade(data, at, btf_type, integer)
    return bytes(data)


def _downgrade(data: bytearray, at: int, btf_type: object, integer: int) -> None:
    name_off, info, size = struct.unpack_from("<III", data, at)
    kind = Kind(info >> 24 & 0x1F)
    if kind == Kind.FLOAT:
        struct.pack_into("<II", data, at + 4, Kind.STRUCT << 24, size)
    elif kind == Kind.DECL_TAG:
        # A tag's extra word is as long as an integer's.
        struct.pack_into("<IIII", data, at, name_off, Kind.INT << 24, 4, 32)
        struct.pack_into("<I", data, at, 0)
    elif kind == Kind.TYPE_TAG:
        struct.pack_into("<II", data, at, 0, Kind.CONST << 24)
    elif isinstance(btf_type, Enum) and kind == Kind.ENUM64:
        struct.pack_into("<III", data, at, name_off, info & 0xFFFF | Kind.UNION << 24, size)
        for i in range(len(btf_type.values)):
            struct.pack_into("<III", data, at + 12 + 12 * i, 0, integer, 0)
    elif kind == Kind.ENUM and info >> 31:
        struct.pack_into("<I", data, at + 4, info & 0x7FFFFFFF)


def btf_by_id(ident: int) -> Btf | None:
    """The BTF object with this id, or None when it may not be read or is gone."""
    owner = open_id(Command.BTF_GET_FD_BY_ID, ident)
    if not isinstance(owner, Fd):
        return None
    fd = owner.number
    try:
        # struct bpf_btf_info: u64 btf, u32 btf_size, u32 id, u64 name, u32 name_len, u32 kernel_btf
        result, buffer = object_info(fd, 32)
        check(result, Command.OBJ_GET_INFO_BY_FD, f"BTF {ident}: info")
        size = int.from_bytes(buffer.raw[8:12], "little")
        data = ctypes.create_string_buffer(size)
        result, _ = object_info(fd, 32, struct.pack("<QI", ctypes.addressof(data), size))
        check(result, Command.OBJ_GET_INFO_BY_FD, f"BTF {ident}: info")
        return Btf(data.raw, name=f"BTF {ident}")
    finally:
        owner.close()
