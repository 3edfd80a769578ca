from bpf2py.lang import *

from bpf2py.lang.kernel import bpf_iter_num

hits: u64 = 0


@iter("bpf_map_elem")
def a(ctx: IterContext) -> int:
    key = ctx.key
    value = ctx.value
    if not key or not value:
        return 0
    seq_write(ctx.meta.seq, key.cast(u32), 4)
    return 0


@iter("tcp")
def b(ctx: IterContext) -> int:
    sk = ctx.sk_common
    if not sk:
        return 0
    seq_print(ctx.meta.seq, f"{sk.skc_family} {ctx.uid}\n")
    return 0


@iter("bpf_prog")
def c(ctx: IterContext) -> int:
    prog = ctx.prog
    if not prog:
        return 0
    seq_print(ctx.meta.seq, f"{prog.aux.id} {prog.aux.name}\n")
    return 0
