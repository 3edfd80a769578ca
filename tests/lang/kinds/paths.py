from bpf2py.lang import *

from bpf2py.lang.kernel import task_struct

buf: char[64] = ""
n: s64 = 0


@raw_tp("sys_enter")
def f(ctx: RawTracepointContext) -> int:
    global n
    task = Ptr[task_struct](get_current_task())
    read_kernel_str(buf, task.mm.exe_file.f_path.dentry.d_name.name)
    n = read_kernel_str(buf, task.comm)
    x = task.cred.uid.val
    ns = task.nsproxy.pid_ns_for_children.level
    return 0
