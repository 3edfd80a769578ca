"""Commands from user space, in a ring buffer of its own: each adds to a number."""

from bpf2py.lang import *
from bpf2py.lang.kernel import bpf_dynptr


class Command(Struct):
    index: u32
    amount: s64


class Totals(Struct):
    commands: u64
    wrong: u64


commands = UserRingBuf[Command](size=4096)
numbers = Array[u32, s64](max_entries=8)


def on_command(record: Ptr[bpf_dynptr], totals: Ptr[Totals]) -> int:
    command = Command()
    totals.commands += 1
    if dynptr_read(command, record, 0):
        totals.wrong += 1
        return 0
    number = numbers.get(command.index)
    if number is None:
        totals.wrong += 1
        return 0
    number.value += command.amount
    return 0


wrong: u64 = 0


@tracepoint("syscalls/sys_enter_getpgid")
def drain(ctx: TracepointContext) -> int:
    global wrong
    totals = Totals()
    commands.drain(on_command, addr(totals))
    wrong += totals.wrong
    return 0
