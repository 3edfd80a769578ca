"""Memory that was allocated and not given back, by the stack that asked for it."""

from bpf2py.lang import *

from .whom import *

DEPTH = 32
MALLOC = 0
REALLOC = 1
MEMALIGN = 2  # the address is stored where an argument says
# What events are of. Unmapping is told before it happens and mapping after it, so that of two threads no one unmaps what the other
# one got meanwhile.
STACK = 0
MAPPED = 1
UNMAPPED = 2
MOVES = 3  # mremap(): what was there goes
MOVED = 4
STAYED = 5  # it failed
MAP_ANONYMOUS = 0x20
MREMAP_DONTUNMAP = 4
FAILED = 0xFFFFFFFFFFFFF000  # results from here on are -errno; MAP_FAILED is -1


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


class Event(Struct):
    stack: u64
    cgroup: u64
    time_ns: u64
    address: u64
    size: u64
    pid: u32
    tid: u32
    kind: u32
    unused: u32


class Mapping(Struct):
    size: u64
    stack: u64
    kind: u32  # of the event at its end
    unused: u32


pieces = Hash[Piece, Allocated](max_entries=1 << 20, flags=BPF_F_NO_PREALLOC)
asked = LruHash[u32, Wanted](max_entries=65_536)
mapping = LruHash[u32, Mapping](max_entries=65_536)  # threads that are in mmap() or mremap()
stacks = Hash[u64, CallStack](max_entries=16_384)
scratch = PerCpuArray[u32, CallStack](max_entries=1)
events = RingBuf[Event](size=1 << 20)  # each stack once, when it is new, for its process may end; and what is mapped
least: Const[u64] = 0
return_address: Const[u64] = 8  # bytes of the stack that returning takes off: on x86-64 8, on aarch64 0
most: Const[u64] = 0xFFFFFFFFFFFFFFFF
lost: u64 = 0
no_room: u64 = 0  # stacks that were not kept
unnamed: u64 = 0


def tell(kind: u32, stack: u64, address: u64, size: u64) -> bool:
    event = Event(kind=kind, stack=stack, address=address, size=size, time_ns=ktime_get_ns())
    event.pid = current_tgid()
    event.tid = current_pid()
    event.cgroup = get_current_cgroup_id()
    return events.output(event) >= 0


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
        if not tell(STACK, number, 0, 0):
            atomic_add(addr(unnamed), 1)
    return number


def asks(ctx: KprobeContext, size: u64, old: u64, kind: u32) -> int:
    if not is_wanted() or current_pid() in asked:
        return (
            0  # of one that calls another, as realloc() calls malloc(), the first is counted, by what the last returns
        )
    if size < least or size > most:
        # The old piece may be one that is known, and what is mapped meanwhile is this call's.
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


def maps(ctx: KprobeContext, size: u64, kind: u32) -> int:
    """mmap() or mremap() begins; those of malloc() and the others are theirs."""
    if not is_wanted() or current_pid() in asked:
        return 0
    stack: u64 = 0
    if kind != UNMAPPED and size >= least and size <= most:
        stack = kept(ctx)
    mapping[current_pid()] = Mapping(size=size, stack=stack, kind=kind)
    return 1


def mapped(address: u64) -> int:
    """It ends; memory that is too small or large to be counted, or a file's, only takes the place of what was there."""
    found = mapping.get(current_pid())
    if found is None:
        return 0
    kind = found.kind
    if address >= FAILED:
        kind = STAYED if found.kind == MOVED else STACK
    elif not found.stack and kind == MAPPED:
        kind = UNMAPPED
    if kind != STACK and not tell(kind, found.stack, address, found.size):
        atomic_add(addr(lost), 1)
    mapping.delete(current_pid())
    return 0


@uprobe
def enter_mmap(ctx: KprobeContext) -> int:
    kind: u32 = MAPPED if PT_REGS_PARM4(ctx) & MAP_ANONYMOUS else UNMAPPED
    maps(ctx, PT_REGS_PARM2(ctx), kind)
    return 0


@uretprobe
def exit_mmap(ctx: KprobeContext) -> int:
    return mapped(PT_REGS_RC(ctx))


@uprobe
def enter_mremap(ctx: KprobeContext) -> int:
    if not maps(ctx, PT_REGS_PARM3(ctx), MOVED) or PT_REGS_PARM4(ctx) & MREMAP_DONTUNMAP:
        return 0
    if not tell(MOVES, 0, PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx)):
        atomic_add(addr(lost), 1)
    return 0


@uretprobe
def exit_mremap(ctx: KprobeContext) -> int:
    return mapped(PT_REGS_RC(ctx))


@uprobe
def enter_munmap(ctx: KprobeContext) -> int:
    if not is_wanted() or current_pid() in asked:
        return 0
    if not tell(UNMAPPED, 0, PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx)):
        atomic_add(addr(lost), 1)
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
    mapping.delete(current_pid())
    return 0
