"""All threads as text, by an iterator: read the link as a file."""

from bpf2py.lang import *


@iter("task")
def dump(ctx: IterContext) -> int:
    task = ctx.task
    if not task:
        return 0
    if ctx.meta.seq_num == 0:
        seq_print(ctx.meta.seq, "     pid    tgid comm\n")
    seq_print(ctx.meta.seq, f"{task.pid:8d} {task.tgid:7d} {task.comm}\n")
    return 0
