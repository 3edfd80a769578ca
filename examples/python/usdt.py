"""A program's own probes (USDT): how often each value comes, and the sum of all."""

from bpf2py.lang import *

values = Hash[s32, u64](max_entries=256)
total: s64 = 0


@usdt
def on_probe(first: s32, second: s64) -> int:
    global total
    values[first] += 1
    total += second
    return 0
