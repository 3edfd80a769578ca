from bpf2py.lang import *

from bpf2py.lang.kernel import filename, file, path


@fentry("do_unlinkat")
def a(dfd: int, name: Ptr[filename]) -> int:
    print(f"unlink {name.name}")
    return 0


@fexit("do_unlinkat")
def b(dfd: int, name: Ptr[filename], ret: s64) -> int:
    return 0


@fmod_ret("security_file_open")
def c(f: Ptr[file], ret: int) -> int:
    return s32(ret)


@kprobe_multi("tcp_*")
def d(ctx: KprobeContext) -> int:
    ip = get_func_ip(ctx)
    return 0


@ksyscall("openat")
def e(dfd: s32, path: u64) -> int:
    return 0


@lsm("file_open")
def g(f: Ptr[file], ret: int) -> int:
    buf = char[64]()
    if ret:
        return s32(ret)
    d_path(addr(f.f_path), buf)
    return 0
