from bpf2py.lang import *

buf: char[64] = "hello"


@syscall
def f(ctx: Context) -> int:
    name = char[16]()
    current_comm(name)
    n = snprintf(buf, f"{name}:{current_tgid()}:{u32(255):x}:{u64(7):04d}")
    if name == "init":
        return 1
    if buf[0] == ord("p"):
        return s32(n)
    return strncmp(buf, 3, "pyt") if n > 0 else 0
