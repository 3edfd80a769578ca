"""Bytes that are read from and written to files, by process and file."""

from bpf2py.lang import *
from bpf2py.lang.kernel import file

from .whom import *

S_IFMT = 0xF000
S_IFREG = 0x8000
MOST_FDS = 1 << 20
NAME = 64


class Key(Struct):
    inode: u64
    pid: u32
    device: u32


class Use(Struct):
    reads: u64
    writes: u64
    read_bytes: u64
    written_bytes: u64
    cgroup: u64
    comm: char[16]
    name: char[NAME]
    parent: char[NAME]


class Call(Struct):
    file: u64
    writes: u32
    unused: u32


uses = Hash[Key, Use](max_entries=10_240)
started = LruHash[u32, Call](max_entries=65_536)
scratch = PerCpuArray[u32, Use](max_entries=1)
every: Const[u32] = 0  # also what is not a regular file
lost: u64 = 0


def file_of(fd: u64) -> u64:
    """The struct file of a descriptor of the current process."""
    task = get_current_task_btf()
    table = task.files.fdt
    if fd >= u64(table.max_fds) or fd >= MOST_FDS:
        return 0
    found: u64 = 0
    read_kernel(found, u64(table.fd) + fd * 8)
    return found


def begins(fd: u64, writes: u32) -> int:
    if is_wanted():
        found = file_of(fd)
        if found:
            started[current_pid()] = Call(file=found, writes=writes)
    return 0


def ends(result: s64) -> int:
    call = started.get(current_pid())
    if call is None:
        return 0
    which = Ptr[file](call.file)
    writes = call.writes
    started.delete(current_pid())
    if result < 0:
        return 0
    node = which.f_inode
    if not every and node.i_mode & S_IFMT != S_IFREG:
        return 0
    key = Key(inode=node.i_ino, pid=current_tgid(), device=node.i_sb.s_dev)
    use = uses.get(key)
    if use is None:
        fresh = scratch.get(0)
        if fresh is None:
            return 0
        fresh.reads = 0
        fresh.writes = 0
        fresh.read_bytes = 0
        fresh.written_bytes = 0
        fresh.cgroup = get_current_cgroup_id()
        current_comm(fresh.comm)
        read_kernel_str(fresh.name, which.f_path.dentry.d_name.name)
        read_kernel_str(fresh.parent, which.f_path.dentry.d_parent.d_name.name)
        uses.put(key, fresh, BPF_NOEXIST)
        use = uses.get(key)
        if use is None:
            atomic_add(addr(lost), 1)
            return 0
    if writes:
        atomic_add(addr(use.writes), 1)
        atomic_add(addr(use.written_bytes), u64(result))
    else:
        atomic_add(addr(use.reads), 1)
        atomic_add(addr(use.read_bytes), u64(result))
    return 0


@tracepoint("syscalls/sys_enter_read")
def enter_read(ctx: TracepointContext) -> int:
    return begins(ctx.args[0], 0)


@tracepoint("syscalls/sys_exit_read")
def exit_read(ctx: TracepointContext) -> int:
    return ends(ctx.ret)


@tracepoint("syscalls/sys_enter_write")
def enter_write(ctx: TracepointContext) -> int:
    return begins(ctx.args[0], 1)


@tracepoint("syscalls/sys_exit_write")
def exit_write(ctx: TracepointContext) -> int:
    return ends(ctx.ret)


@tracepoint("syscalls/sys_enter_pread64")
def enter_pread64(ctx: TracepointContext) -> int:
    return begins(ctx.args[0], 0)


@tracepoint("syscalls/sys_exit_pread64")
def exit_pread64(ctx: TracepointContext) -> int:
    return ends(ctx.ret)


@tracepoint("syscalls/sys_enter_pwrite64")
def enter_pwrite64(ctx: TracepointContext) -> int:
    return begins(ctx.args[0], 1)


@tracepoint("syscalls/sys_exit_pwrite64")
def exit_pwrite64(ctx: TracepointContext) -> int:
    return ends(ctx.ret)


@tracepoint("syscalls/sys_enter_readv")
def enter_readv(ctx: TracepointContext) -> int:
    return begins(ctx.args[0], 0)


@tracepoint("syscalls/sys_exit_readv")
def exit_readv(ctx: TracepointContext) -> int:
    return ends(ctx.ret)


@tracepoint("syscalls/sys_enter_writev")
def enter_writev(ctx: TracepointContext) -> int:
    return begins(ctx.args[0], 1)


@tracepoint("syscalls/sys_exit_writev")
def exit_writev(ctx: TracepointContext) -> int:
    return ends(ctx.ret)


@tracepoint("syscalls/sys_enter_preadv")
def enter_preadv(ctx: TracepointContext) -> int:
    return begins(ctx.args[0], 0)


@tracepoint("syscalls/sys_exit_preadv")
def exit_preadv(ctx: TracepointContext) -> int:
    return ends(ctx.ret)


@tracepoint("syscalls/sys_enter_pwritev")
def enter_pwritev(ctx: TracepointContext) -> int:
    return begins(ctx.args[0], 1)


@tracepoint("syscalls/sys_exit_pwritev")
def exit_pwritev(ctx: TracepointContext) -> int:
    return ends(ctx.ret)


@tracepoint("syscalls/sys_enter_preadv2")
def enter_preadv2(ctx: TracepointContext) -> int:
    return begins(ctx.args[0], 0)


@tracepoint("syscalls/sys_exit_preadv2")
def exit_preadv2(ctx: TracepointContext) -> int:
    return ends(ctx.ret)


@tracepoint("syscalls/sys_enter_pwritev2")
def enter_pwritev2(ctx: TracepointContext) -> int:
    return begins(ctx.args[0], 1)


@tracepoint("syscalls/sys_exit_pwritev2")
def exit_pwritev2(ctx: TracepointContext) -> int:
    return ends(ctx.ret)
