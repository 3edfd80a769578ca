from bpf2py.lang import *


class S(Struct):
    n: u64


st = TaskStorage[S]()


@tp_btf("sys_enter")
def f(regs: Ptr[pt_regs], id: s64) -> int:
    s = st.get(get_current_task_btf(), create=True)
    if s:
        s.n += 1
    return 0
