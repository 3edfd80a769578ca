"""Stacks with which functions are called and tracepoints reached, counted."""

from bpf2py.lang import *

from .whom import *

DEPTH = 127


class CallStack(Struct):
    frames: array[u64, DEPTH]


class Key(Struct):
    kernel: u64  # numbers of stacks, 0 where there is none
    user: u64
    cgroup: u64
    pid: u32
    number: u32  # of the function, by its cookie
    comm: char[16]


counts = Hash[Key, u64](max_entries=65_536)
stacks = Hash[u64, CallStack](max_entries=16_384)  # preallocated: in a probe there may be no memory
scratch = PerCpuArray[u32, CallStack](max_entries=1)
events = RingBuf[Key](size=1 << 20)  # each key once, when it is new: its process may be gone before the end
lost: u64 = 0
no_room: u64 = 0  # stacks that were not kept
unnamed: u64 = 0  # keys that found no room in events
return_address: Const[u64] = 8  # bytes of the stack that returning takes off: on x86-64 8, on aarch64 0


def kept(stack: Ptr[CallStack], size: s64) -> u64:
    """The number of the stack, which is kept; 0 where there is none."""
    if size <= 0:
        return 0
    number: u64 = 14695981039346656037  # FNV-1a, of whole addresses: a STACK_TRACE map keeps one of those in a bucket
    for i in range(DEPTH):
        if i * 8 < size:
            number = (number ^ stack.frames[i]) * 1099511628211
        else:
            stack.frames[i] = 0
    if number not in stacks and stacks.put(number, stack) < 0:
        atomic_add(addr(no_room), 1)
    return number


def counted(key: Ptr[Key]) -> int:
    key.pid = current_tgid()
    key.cgroup = get_current_cgroup_id()
    current_comm(key.comm)
    count = counts.get(key)
    if count is not None:
        atomic_add(count, 1)
        return 0
    if counts.put(key, 1, BPF_NOEXIST) < 0:
        count = counts.get(key)  # another CPU was faster, or there is no room
        if count is None:
            atomic_add(addr(lost), 1)
            return 0
        atomic_add(count, 1)
        return 0
    if events.output(key) < 0:
        atomic_add(addr(unnamed), 1)
    return 0


def caller(ctx: KprobeContext) -> u64:
    """Where a function that was just called returns to."""
    if return_address == 0:
        return PT_REGS_RET(ctx)
    found: u64 = 0
    read_user(found, PT_REGS_SP(ctx))
    return found


def called(ctx: KprobeContext, number: u64) -> int:
    """A function of a program: frame pointers lead past its caller until its first instruction is over. Linux 6.13 knows that."""
    stack = scratch.get(0)
    if stack is None or not is_wanted():
        return 0
    key = Key(number=u32(number))
    key.kernel = 0
    size = get_stack(ctx, addr(stack.frames[1]), DEPTH * 8 - 8, BPF_F_USER_STACK)
    if size > 0:
        stack.frames[0] = stack.frames[1]
        stack.frames[1] = caller(ctx)
        key.user = kept(stack, size + 8)
    return counted(addr(key))


def reached(ctx: KprobeContext, number: u64) -> int:
    stack = scratch.get(0)
    if stack is None or not is_wanted():
        return 0
    key = Key(number=u32(number))
    key.kernel = kept(stack, get_stack(ctx, stack.frames, DEPTH * 8, 0))
    key.user = kept(stack, get_stack(ctx, stack.frames, DEPTH * 8, BPF_F_USER_STACK))
    return counted(addr(key))


@uprobe_multi(autoload=False)
def on_functions(ctx: KprobeContext) -> int:
    return called(ctx, get_attach_cookie(ctx))


@uprobe(autoload=False)
def on_function(ctx: KprobeContext) -> int:
    return called(ctx, 0)


@kprobe_multi(autoload=False)
def on_kernel_functions(ctx: KprobeContext) -> int:
    return reached(ctx, get_attach_cookie(ctx))


@kprobe(autoload=False)
def on_kernel_function(ctx: KprobeContext) -> int:
    return reached(ctx, get_attach_cookie(ctx))


@usdt(autoload=False)
def on_usdt(ctx: KprobeContext) -> int:
    return reached(ctx, 0)


@tracepoint(autoload=False)
def on_tracepoint(ctx: TracepointContext) -> int:
    stack = scratch.get(0)
    if stack is None or not is_wanted():
        return 0
    key = Key(number=u32(get_attach_cookie(ctx)))
    key.kernel = kept(stack, get_stack(ctx, stack.frames, DEPTH * 8, 0))
    key.user = kept(stack, get_stack(ctx, stack.frames, DEPTH * 8, BPF_F_USER_STACK))
    return counted(addr(key))
