"""System calls counted in a map of their own for each user: the outer map says which users are watched."""

from bpf2py.lang import *
from bpf2py.lang.kernel import pt_regs

root_calls = Hash[u32, u64](max_entries=512)
users = HashOfMaps[u32, Hash[u32, u64]](max_entries=64, inner=Hash[u32, u64](max_entries=512), values={0: root_calls})


@raw_tp("sys_enter")
def on_enter(regs: Ptr[pt_regs], number: s64) -> int:
    calls = users.get(current_uid())
    if calls is None:
        return 0
    calls[u32(number)] += 1
    return 0
