"""Calls of functions, counted by their addresses, which user space names."""

from bpf2py.lang import *

from .whom import *

counts = Array[u32, u64](max_entries=1)  # by the number each function has as its cookie


def called(number: u64) -> int:
    if is_wanted():
        count = counts.get(u32(number))
        if count is not None:
            atomic_add(count, 1)
    return 0


@uprobe_multi(autoload=False)
def on_functions(ctx: KprobeContext) -> int:
    return called(get_attach_cookie(ctx))


@uprobe(autoload=False)
def on_function(ctx: KprobeContext) -> int:
    return called(0)


@kprobe_multi(autoload=False)
def on_kernel_functions(ctx: KprobeContext) -> int:
    return called(get_attach_cookie(ctx))


@kprobe(autoload=False)
def on_kernel_function(ctx: KprobeContext) -> int:
    return called(get_attach_cookie(ctx))


@tracepoint(autoload=False)
def on_tracepoint(ctx: TracepointContext) -> int:
    return called(get_attach_cookie(ctx))


@usdt(autoload=False)
def on_usdt(ctx: KprobeContext) -> int:
    return called(0)
