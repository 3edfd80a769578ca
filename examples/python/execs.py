"""Programs that are executed, counted by command: the first thing to look at on a busy machine."""

from bpf2py.lang import *


class Command(Struct):
    comm: char[16]


class Count(Struct):
    count: u64
    last_ns: u64
    last_pid: u32
    last_uid: u32


commands = Hash[Command, Count](max_entries=4096)


@tracepoint("sched/sched_process_exec")
def on_exec(ctx: TracepointContext) -> int:
    command = Command()
    current_comm(command.comm)
    found = commands.setdefault(command)
    if found is None:
        return 0
    atomic_add(addr(found.count), 1)
    found.last_ns = ktime_get_ns()
    found.last_pid = current_tgid()
    found.last_uid = current_uid()
    return 0
