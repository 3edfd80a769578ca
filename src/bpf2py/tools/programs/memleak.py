"""Memory that was allocated and not given back, by the stack that asked for it."""

from bpf2py.lang import *

from .whom import *

DEPTH = 32
MALLOC = 0
REALLOC = 1
MEMALIGN = 2  # the address is stored where an argument says


class CallStack(Struct):
    frames: array[u64, DEPTH]


class Piece(Struct):
    address: u64
    pid: u32
    unused: u32


class Allocated(Struct):
    time_ns: u64
    size: u64
    stack: u64


class Wanted(Struct):
    size: u64
    stack: u64
    old: u64  # of realloc; of posix_memalign where the address goes
    kind: u32
    unused: u32


class New(Struct):
    stack: u64
    pid: u32
    unused: u32


pieces = Hash[Piece, Allocated](max_entries=1 << 20, flags=BPF_F_NO_PREALLOC)
asked = LruHash[u32, Wanted](max_entries=65_536)
stacks = Hash[u64, CallStack](max_entries=16_384)
scratch = PerCpuArray[u32, CallStack](max_entries=1)
events = RingBuf[New](size=1 << 20)  # each stack once, when it is new: its process may be gone before the end
least: Const[u64] = 0
return_address: Const[u64] = 8  # bytes of the stack that returning takes off: on x86-64 8, on aarch64 0
most: Const[u64] = 0xFFFFFFFFFFFFFFFF
lost: u64 = 0
no_room: u64 = 0  # stacks that were not kept
unnamed: u64 = 0


def caller(ctx: KprobeContext) -> u64:
    """Where a function that was just called returns to."""
    if return_address == 0:
        return PT_REGS_RET(ctx)
    found: u64 = 0
    read_user(found, PT_REGS_SP(ctx))
    return found


def kept(ctx: KprobeContext) -> u64:
    """The number of the stack, which is kept; 0 where there is none."""
    stack = scratch.get(0)
    if stack is None:
        return 0
    size = get_stack(ctx, addr(stack.frames[1]), DEPTH * 8 - 8, BPF_F_USER_STACK)
    if size <= 0:
        return 0
    # Frame pointers are set up after the first instruction: until then they lead past the caller. Linux 6.13 knows that.
    stack.frames[0] = stack.frames[1]
    stack.frames[1] = caller(ctx)
    size += 8
    number: u64 = 14695981039346656037  # FNV-1a, of whole addresses, and of the process
    number = (number ^ current_tgid()) * 1099511628211
    for i in range(DEPTH):
        if i * 8 < size:
            number = (number ^ stack.frames[i]) * 1099511628211
        else:
            stack.frames[i] = 0
    if number not in stacks:
        if stacks.put(number, stack) < 0:
            atomic_add(addr(no_room), 1)
        if events.output(New(stack=number, pid=current_tgid())) < 0:
            atomic_add(addr(unnamed), 1)
    return number


def asks(ctx: KprobeContext, size: u64, old: u64, kind: u32) -> int:
    if not is_wanted() or current_pid() in asked:
        return (
            0  # of one that calls another, as realloc() calls malloc(), the first is counted, by what the last returns
        )
    if size < least or size > most:
        if kind == REALLOC:  # the old piece may be one that is known
            asked[current_pid()] = Wanted(size=0, old=old, kind=kind)
        return 0
    asked[current_pid()] = Wanted(size=size, stack=kept(ctx), old=old, kind=kind)
    return 0


def gets(result: u64, kind: u32) -> int:
    wanted = asked.get(current_pid())
    if wanted is None:
        return 0
    address = result
    if kind == MEMALIGN:
        if result != 0:
            asked.delete(current_pid())
            return 0
        read_user(address, wanted.old)
    if wanted.kind == REALLOC and wanted.old and (address or wanted.size == 0):
        pieces.delete(Piece(address=wanted.old, pid=current_tgid()))
    if address and wanted.size:
        piece = Piece(address=address, pid=current_tgid())
        found = Allocated(time_ns=ktime_get_ns(), size=wanted.size, stack=wanted.stack)
        if pieces.put(piece, found) < 0:
            atomic_add(addr(lost), 1)
    asked.delete(current_pid())
    return 0


def gives_back(address: u64) -> int:
    if address:
        pieces.delete(Piece(address=address, pid=current_tgid()))
    return 0


@uprobe
def enter_malloc(ctx: KprobeContext) -> int:
    return asks(ctx, PT_REGS_PARM1(ctx), 0, MALLOC)


@uprobe
def enter_calloc(ctx: KprobeContext) -> int:
    return asks(ctx, PT_REGS_PARM1(ctx) * PT_REGS_PARM2(ctx), 0, MALLOC)


@uprobe
def enter_realloc(ctx: KprobeContext) -> int:
    return asks(ctx, PT_REGS_PARM2(ctx), PT_REGS_PARM1(ctx), REALLOC)


@uprobe
def enter_aligned_alloc(ctx: KprobeContext) -> int:
    return asks(ctx, PT_REGS_PARM2(ctx), 0, MALLOC)


@uprobe
def enter_memalign(ctx: KprobeContext) -> int:
    return asks(ctx, PT_REGS_PARM2(ctx), 0, MALLOC)


@uprobe
def enter_posix_memalign(ctx: KprobeContext) -> int:
    return asks(ctx, PT_REGS_PARM3(ctx), PT_REGS_PARM1(ctx), MEMALIGN)


@uretprobe
def exit_malloc(ctx: KprobeContext) -> int:
    return gets(PT_REGS_RC(ctx), MALLOC)


@uretprobe
def exit_calloc(ctx: KprobeContext) -> int:
    return gets(PT_REGS_RC(ctx), MALLOC)


@uretprobe
def exit_realloc(ctx: KprobeContext) -> int:
    return gets(PT_REGS_RC(ctx), MALLOC)


@uretprobe
def exit_aligned_alloc(ctx: KprobeContext) -> int:
    return gets(PT_REGS_RC(ctx), MALLOC)


@uretprobe
def exit_memalign(ctx: KprobeContext) -> int:
    return gets(PT_REGS_RC(ctx), MALLOC)


@uretprobe
def exit_posix_memalign(ctx: KprobeContext) -> int:
    return gets(u32(PT_REGS_RC(ctx)), MEMALIGN)


@uprobe
def enter_free(ctx: KprobeContext) -> int:
    return gives_back(PT_REGS_PARM1(ctx))


@raw_tp("sched_process_exit")
def on_exit(ctx: RawTracepointContext) -> int:
    asked.delete(current_pid())
    return 0
