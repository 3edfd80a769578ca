from bpf2py.lang import *


@iter("task")
def dump(ctx: IterContext) -> int:
    task = ctx.task
    if task is None:
        return 0
    seq_print(ctx.meta.seq, f"{task.pid:8d} {task.comm}\n")
    return 0
