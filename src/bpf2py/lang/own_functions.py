"""What the language offers by itself, for Python: signatures for type checkers. The functions run where programs do."""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

from bpf2py.lang.memory import Ptr

__all__ = [
    "PT_REGS_FP",
    "PT_REGS_IP",
    "PT_REGS_PARM1",
    "PT_REGS_PARM2",
    "PT_REGS_PARM3",
    "PT_REGS_PARM4",
    "PT_REGS_PARM5",
    "PT_REGS_RC",
    "PT_REGS_RET",
    "PT_REGS_SP",
    "addr",
    "atomic_add",
    "atomic_and",
    "atomic_or",
    "atomic_sub",
    "atomic_xor",
    "be64_to_cpu",
    "compare_exchange",
    "core_cast",
    "container_of",
    "cpu_to_be64",
    "current_comm",
    "current_gid",
    "current_pid",
    "current_tgid",
    "current_uid",
    "enum_value",
    "exchange",
    "exists",
    "fetch_add",
    "fetch_and",
    "fetch_or",
    "fetch_sub",
    "fetch_xor",
    "field_offset",
    "field_size",
    "htonl",
    "htons",
    "ntohl",
    "ntohs",
    "obj_drop",
    "obj_new",
    "offsetof",
    "read_kernel",
    "read_kernel_str",
    "read_user",
    "read_user_str",
    "seq_print",
    "sizeof",
    "snprintf",
    "stream_print",
    "type_exists",
    "type_size",
]

T = TypeVar("T")


def _elsewhere(name: str) -> NoReturn:
    raise TypeError(f"{name}() runs where the program does, in the kernel or an engine; Python only reads its name")


def current_pid() -> int:
    """The thread that runs: what user space calls its thread id."""
    _elsewhere("current_pid")


def current_tgid() -> int:
    """The process that runs: what user space calls its process id."""
    _elsewhere("current_tgid")


def current_uid() -> int:
    """The user id of the process that runs."""
    _elsewhere("current_uid")


def current_gid() -> int:
    """The group id of the process that runs."""
    _elsewhere("current_gid")


def current_comm(buffer: Any) -> int:
    """Write the name of the thread that runs into a char[16]; negative on failure."""
    _elsewhere("current_comm")


def read_user(target: Any, *arguments: Any) -> int:
    """``read_user(target, address)``: copy from the process's memory; as many bytes as `target` has, or a length between."""
    _elsewhere("read_user")


def read_kernel(target: Any, *arguments: Any) -> int:
    """``read_kernel(target, address)``: copy from the kernel's memory."""
    _elsewhere("read_kernel")


def read_user_str(target: Any, *arguments: Any) -> int:
    """``read_user_str(target, address)``: copy a string from the process's memory; its length with the NUL, or negative."""
    _elsewhere("read_user_str")


def read_kernel_str(target: Any, *arguments: Any) -> int:
    """``read_kernel_str(target, address)``: copy a string from the kernel's memory."""
    _elsewhere("read_kernel_str")


def sizeof(thing: Any) -> int:
    """The size of a type or of a place in memory, in bytes."""
    _elsewhere("sizeof")


def addr(place: T) -> Ptr[T]:
    """Where a variable, a field or an element lies."""
    _elsewhere("addr")


def exists(field: Any) -> bool:
    """Whether the running kernel has a field (``exists(task.field)``) or a function (CO-RE)."""
    _elsewhere("exists")


def field_size(field: Any) -> int:
    """The size of a field in the running kernel, in bytes."""
    _elsewhere("field_size")


def field_offset(field: Any) -> int:
    """Where a field begins in its struct in the running kernel, in bytes."""
    _elsewhere("field_offset")


def type_exists(kind: Any) -> bool:
    """Whether the running kernel has a type."""
    _elsewhere("type_exists")


def type_size(kind: Any) -> int:
    """The size of a type in the running kernel, in bytes."""
    _elsewhere("type_size")


def enum_value(kind: Any, name: Any) -> int:
    """The value that an enumerator has in the running kernel."""
    _elsewhere("enum_value")


def core_cast(pointer: Any, kind: type[T]) -> Ptr[T]:
    """An address as a pointer to a kernel struct that the verifier lets a program read through (Linux 6.2)."""
    _elsewhere("core_cast")


def container_of(pointer: Any, kind: type[T], field: str) -> Ptr[T]:
    """The struct that a pointer to one of its fields lies in."""
    _elsewhere("container_of")


def offsetof(kind: Any, field: str) -> int:
    """Where a field begins in a struct, in bytes: ``offsetof(iphdr, "ttl")``."""
    _elsewhere("offsetof")


def obj_new(kind: type[T]) -> Ptr[T] | None:
    """Allocate a Struct of this module (Linux 6.2)."""
    _elsewhere("obj_new")


def obj_drop(pointer: Ptr[Any]) -> None:
    """Free what `obj_new` gave."""
    _elsewhere("obj_drop")


def snprintf(buffer: Any, text: str) -> int:
    """Format an f-string into a char[N]; its length with the NUL."""
    _elsewhere("snprintf")


def seq_print(seq: Any, text: str) -> int:
    """Format an f-string into the output of an iterator."""
    _elsewhere("seq_print")


def stream_print(stream: int, text: str) -> int:
    """Format an f-string into a stream of the program's own, 1 or 2 (Linux 6.17)."""
    _elsewhere("stream_print")


def htons(value: int) -> int:
    """16 bits in network byte order."""
    _elsewhere("htons")


def ntohs(value: int) -> int:
    """16 bits from network byte order."""
    _elsewhere("ntohs")


def htonl(value: int) -> int:
    """32 bits in network byte order."""
    _elsewhere("htonl")


def ntohl(value: int) -> int:
    """32 bits from network byte order."""
    _elsewhere("ntohl")


def cpu_to_be64(value: int) -> int:
    """64 bits in network byte order."""
    _elsewhere("cpu_to_be64")


def be64_to_cpu(value: int) -> int:
    """64 bits from network byte order."""
    _elsewhere("be64_to_cpu")


def atomic_add(place: Any, value: int) -> None:
    """Add, in one step that no other CPU sees half of; `place` has 32 or 64 bits, or is a pointer to them."""
    _elsewhere("atomic_add")


def atomic_sub(place: Any, value: int) -> None:
    """Subtract, in one step; `place` has 32 or 64 bits, or is a pointer to them."""
    _elsewhere("atomic_sub")


def atomic_or(place: Any, value: int) -> None:
    """Set bits, in one step; `place` has 32 or 64 bits, or is a pointer to them."""
    _elsewhere("atomic_or")


def atomic_and(place: Any, value: int) -> None:
    """Keep bits, in one step; `place` has 32 or 64 bits, or is a pointer to them."""
    _elsewhere("atomic_and")


def atomic_xor(place: Any, value: int) -> None:
    """Flip bits, in one step; `place` has 32 or 64 bits, or is a pointer to them."""
    _elsewhere("atomic_xor")


def fetch_add(place: Any, value: int) -> int:
    """Add and give what was there before (Linux 5.12)."""
    _elsewhere("fetch_add")


def fetch_sub(place: Any, value: int) -> int:
    """Subtract and give what was there before (Linux 5.12)."""
    _elsewhere("fetch_sub")


def fetch_or(place: Any, value: int) -> int:
    """Set bits and give what was there before (Linux 5.12)."""
    _elsewhere("fetch_or")


def fetch_and(place: Any, value: int) -> int:
    """Keep bits and give what was there before (Linux 5.12)."""
    _elsewhere("fetch_and")


def fetch_xor(place: Any, value: int) -> int:
    """Flip bits and give what was there before (Linux 5.12)."""
    _elsewhere("fetch_xor")


def exchange(place: Any, value: int) -> int:
    """Store and give what was there before (Linux 5.12)."""
    _elsewhere("exchange")


def compare_exchange(place: Any, expected: int, value: int) -> int:
    """Store where the expected value is, and give what was there before (Linux 5.12)."""
    _elsewhere("compare_exchange")


def PT_REGS_PARM1(ctx: Any) -> int:
    """The first argument of a probed function, from its registers."""
    _elsewhere("PT_REGS_PARM1")


def PT_REGS_PARM2(ctx: Any) -> int:
    """The second argument of a probed function, from its registers."""
    _elsewhere("PT_REGS_PARM2")


def PT_REGS_PARM3(ctx: Any) -> int:
    """The third argument of a probed function, from its registers."""
    _elsewhere("PT_REGS_PARM3")


def PT_REGS_PARM4(ctx: Any) -> int:
    """The fourth argument of a probed function, from its registers."""
    _elsewhere("PT_REGS_PARM4")


def PT_REGS_PARM5(ctx: Any) -> int:
    """The fifth argument of a probed function, from its registers."""
    _elsewhere("PT_REGS_PARM5")


def PT_REGS_RC(ctx: Any) -> int:
    """The result of a probed function, from its registers."""
    _elsewhere("PT_REGS_RC")


def PT_REGS_RET(ctx: Any) -> int:
    """The return address of a probed function, from its registers."""
    _elsewhere("PT_REGS_RET")


def PT_REGS_FP(ctx: Any) -> int:
    """The frame pointer of a probed function, from its registers."""
    _elsewhere("PT_REGS_FP")


def PT_REGS_SP(ctx: Any) -> int:
    """The stack pointer of a probed function, from its registers."""
    _elsewhere("PT_REGS_SP")


def PT_REGS_IP(ctx: Any) -> int:
    """The instruction pointer of a probed function, from its registers."""
    _elsewhere("PT_REGS_IP")
