from bpf2py.lang import *

from bpf2py.lang.kernel import dentry, file, path


@fentry("security_path_unlink")
def a(directory: Ptr[path], entry: Ptr[dentry]) -> int:
    print(f"unlink {entry.d_name.name}")
    return 0


@fexit("security_path_unlink")
def b(directory: Ptr[path], entry: Ptr[dentry], ret: int) -> int:
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
