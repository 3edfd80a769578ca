"""Programs of many kinds; pairs.bpf.c has each of them in C. What they find out they put into `out`, at indices of their own."""

from bpf2py.lang import *

from bpf2py.lang.kernel import (
    bpf_cpumask_create,
    bpf_cpumask_first,
    bpf_cpumask_release,
    bpf_cpumask_set_cpu,
    bpf_cpumask_test_cpu,
    bpf_cpumask_weight,
    bpf_dynptr_adjust,
    bpf_dynptr_clone,
    bpf_dynptr_from_skb,
    bpf_dynptr_from_xdp,
    bpf_dynptr_size,
    bpf_dynptr_slice,
    bpf_list_head,
    bpf_list_node,
    bpf_list_pop_back,
    bpf_list_pop_front,
    bpf_list_push_back,
    bpf_list_push_front,
    bpf_rb_node,
    bpf_rb_root,
    bpf_rbtree_add,
    bpf_rbtree_first,
    bpf_rbtree_remove,
    bpf_throw,
    cpumask,
    ethhdr,
    icmphdr,
    iphdr,
    ipv6hdr,
    tcphdr,
    udphdr,
)

out = Array[u32, u64](max_entries=512)


def say(index: u32, value: u64) -> None:
    out[index] = value


# -- integers, memory ---------------------------------------------------------------------------------------------------


def rol32(word: u32, shift: u32) -> u32:
    return (word << shift) | (word >> (32 - shift))


def jhash(data: Ptr[u8], length: u32, initval: u32) -> u32:
    a = b = c = u32(0xDEADBEEF) + length + initval
    for i in range(length):
        a += data[i]
        a -= c
        a ^= rol32(c, 4)
        c += b
        b -= a
        b ^= rol32(a, 6)
        a += c
        c -= b
        c ^= rol32(b, 8)
    return c


@tc
def hashes(ctx: SkbContext) -> int:
    text = array[u8, 16]()
    for i in range(16):
        text[i] = i * 7 + 3
    say(0, jhash(text, 16, 5))
    low: u32 = 1
    high: u32 = 0
    for byte in text:
        low = (low + byte) % 65521
        high = (high + low) % 65521
    say(1, high << 16 | low)
    fnv: u64 = 0xCBF29CE484222325
    for byte in text:
        fnv = (fnv ^ byte) * 0x100000001B3
    say(2, fnv)
    return 0


values: array[s32, 12] = [5, -3, 99, 0, 7, -3, 12, 44, -100, 6, 6, 1]


@tc
def sorting(ctx: SkbContext) -> int:
    a = array[s32, 12]()
    for i in range(12):
        a[i] = values[i]
    for i in range(11):
        for j in range(11 - i):
            if a[j] > a[j + 1]:
                a[j], a[j + 1] = a[j + 1], a[j]
    total: s64 = 0
    for i in range(12):
        total = total * 31 + a[i]
    say(4, u64(total))
    return a[0]


class Packed(Struct, packed=True):
    kind: u8
    length: be16
    cookie: u64


class Flags(Struct):
    low: u32[:3]
    high: u32[:5]
    rest: u32[:24]


class Number(Union):
    whole: u64
    halves: array[u32, 2]
    bytes: array[u8, 8]


@tc
def layouts(ctx: SkbContext) -> int:
    p = Packed(kind=3, length=htons(513), cookie=0x0102030405060708)
    raw = addr(p).cast(u8)
    total: u64 = 0
    for i in range(11):
        total = total * 3 + raw[i]
    say(6, total)
    f = Flags(low=5, high=17)
    f.low += 6
    f.rest = 0xABCDEF
    f.high -= 1
    say(7, (u64(f.low) << 40) | (u64(f.high) << 32) | f.rest)
    n = Number(whole=0x1122334455667788)
    n.bytes[0] ^= 0xFF
    n.halves[1] += 2
    say(8, n.whole)
    return s32(sizeof(Packed) * 100 + sizeof(Flags) * 10 + sizeof(Number))


word: u32 = 5
long_word: u64 = 7


@tc
def atomics(ctx: SkbContext) -> int:
    global word, long_word
    word = 5
    long_word = 7
    say(10, fetch_add(word, 3))
    say(11, fetch_or(word, 0x70))
    say(12, fetch_and(long_word, 5))
    say(13, fetch_xor(long_word, 0xFF))
    say(14, exchange(word, 99))
    say(15, compare_exchange(word, 99, 1))
    say(16, compare_exchange(word, 99, 2))
    atomic_sub(long_word, 1)
    atomic_add(word, 10)
    say(17, long_word)
    return s32(word)


@tc
def texts(ctx: SkbContext) -> int:
    buffer = char[32]()
    n = snprintf(buffer, f"{u32(17):04x}-{s32(-5)}-{u64(1) << 40}")
    total: u64 = 0
    for i in range(32):
        total = total * 131 + buffer[i]
    say(20, total)
    number: s64 = 0
    digits: char[8] = "-77"
    say(21, u64(strtol(digits, 8, 0, number)))
    say(22, u64(number))
    other: char[8] = "abcdef"
    say(23, u64(strncmp(other, 3, "abc")))
    say(24, 1 if other == "abcdef" else 0)
    return s32(n)


# -- loops, functions -----------------------------------------------------------------------------------------------------


class Sum(Struct):
    total: u64
    rounds: u32


def inner_round(index: u64, sum: Ptr[Sum]) -> int:
    sum.total += index
    return 0


def outer_round(index: u64, sum: Ptr[Sum]) -> int:
    sum.rounds += 1
    loop(index, inner_round, sum)
    return 1 if index >= 6 else 0


@tc
def callbacks(ctx: SkbContext) -> int:
    sum = Sum()
    say(26, u64(loop(100, outer_round, sum)))
    say(27, sum.total)
    return s32(sum.rounds)


@tc
def counted(ctx: SkbContext) -> int:
    n = ctx.len & 31
    total: u64 = 0
    for i in range(n):
        if i == 5:
            continue
        if i > 20:
            break
        total += i
    for i in range(n, 0, -3):
        total = total * 3 + i
    for number in bpf_iter_num(3, 9):
        total += u64(number.value)
    bits: u64 = 0xF0F0
    for bit in bpf_iter_bits(addr(bits), 1):
        total = total * 2 + u64(bit.value)
    say(28, total)
    return 0


@subprogram
def gcd(a: u64, b: u64) -> u64:
    for _ in range(64):
        if b == 0:
            break
        a, b = b, a % b
    return a


@global_function
def weighted(sum: Ptr[Sum], factor: u32) -> int:
    if not sum:
        return -1
    sum.total *= factor
    return s32(sum.rounds)


@global_function
def of_packet(ctx: SkbContext, more: u32) -> int:
    return s32(ctx.len + more)


@tc
def functions(ctx: SkbContext) -> int:
    say(30, gcd(1071, 462))
    sum = Sum(total=6, rounds=4)
    say(31, u64(weighted(sum, 7)))
    say(32, sum.total)
    return of_packet(ctx, 1000)


@subprogram
def refuse(ctx: SkbContext, limit: u32) -> int:
    if ctx.len > limit:
        bpf_throw(33)
    return 4


@tc
def thrown(ctx: SkbContext) -> int:
    return refuse(ctx, 1000) * 10 + refuse(ctx, 1)


calls: u64 = 0


@tc
def last_call(ctx: SkbContext) -> int:
    global calls
    calls += 1
    if calls % 40:
        chain.tail_call(ctx, 1)
    return s32(calls)


@subprogram
def jump(ctx: SkbContext) -> int:
    chain.tail_call(ctx, 0)
    return 77


@tc
def first_call(ctx: SkbContext) -> int:
    global calls
    calls = 0
    return jump(ctx) + 1


chain = ProgArray(max_entries=2, values=[last_call, last_call])

# -- maps -------------------------------------------------------------------------------------------------------------------


class Pair(Struct):
    a: u32
    b: u32


class Stats(Struct):
    count: u64
    last: u32
    name: char[8]


table = Hash[Pair, Stats](max_entries=8)
recent = LruHash[u32, u32](max_entries=16)
each_cpu = PerCpuHash[u32, u64](max_entries=4)


def visit(map: Hash[Pair, Stats], key: Ptr[Pair], value: Ptr[Stats], sum: Ptr[Sum]) -> int:
    sum.total += key.a * value.count
    value.last += 1
    return 0


@tc
def hashed(ctx: SkbContext) -> int:
    for i in range(6):
        key = Pair(a=i, b=i * i)
        table[key] = Stats(count=i + 10, name="n")
    first = Pair(a=2, b=4)
    say(34, u64(table.put(first, Stats(), BPF_NOEXIST)))
    say(35, u64(table.put(Pair(a=100), Stats(), BPF_EXIST)))
    found = table.get(first)
    if found is None:
        return -1
    found.count *= 2
    del table[Pair(a=3, b=9)]
    say(36, u64(table.delete(Pair(a=3, b=9))))
    sum = Sum()
    say(37, u64(table.for_each(visit, sum)))
    say(38, sum.total)
    total: u64 = 0
    for k, v in table.items():
        if k.a == 5:
            continue
        total += v.count + v.last
    say(39, total)
    recent[4] = 1
    recent[4] |= 6
    each_cpu[1] += 4
    p = recent.get(4)
    q = each_cpu.get(1)
    if p and q and 4 in recent and 5 not in recent:
        return s32(p.value * 10) + s32(q.value)
    return -2


fifo = Queue[Pair](max_entries=3)
lifo = Stack[u32](max_entries=3)
seen = BloomFilter[u32](max_entries=64, hashes=4)


@tc
def queues(ctx: SkbContext) -> int:
    for i in range(4):
        p = Pair(a=i, b=i + 100)
        say(40 + i, u64(fifo.push(p)))
        lifo.push(i)
        seen.push(i)
    pair = Pair()
    say(44, u64(fifo.peek(pair)))
    say(45, u64(fifo.pop(pair)))
    say(46, u64(pair.a) * 1000 + pair.b)
    top: u32 = 0
    lifo.pop(top)
    say(47, top)
    fifo.pop(pair)
    fifo.pop(pair)
    say(48, u64(fifo.pop(pair)))
    return 1 if 3 in seen else 0


class Prefix(Struct):
    prefixlen: u32
    address: be32


routes = LpmTrie[Prefix, u32](max_entries=16)


@tc
def routed(ctx: SkbContext) -> int:
    routes[Prefix(prefixlen=8, address=htonl(0x0A000000))] = 1
    routes[Prefix(prefixlen=16, address=htonl(0x0A010000))] = 2
    routes[Prefix(prefixlen=32, address=htonl(0x0A010203))] = 3
    total = 0
    for address in (0x0A010203, 0x0A010204, 0x0A020000, 0x0B000000):
        hit = routes.get(Prefix(prefixlen=32, address=htonl(address)))
        total = total * 10 + (hit.value if hit else 9)
    return s32(total)


small = Array[u32, u64](max_entries=4)
other = Array[u32, u64](max_entries=4)
maps = ArrayOfMaps[u32, Array[u32, u64]](max_entries=3, values=[small, other])


@tc
def nested_maps(ctx: SkbContext) -> int:
    for i in range(3):
        m = maps.get(i)
        if m is None:
            say(50, i + 70)
            continue
        m[1] += i + 5
        p = m.get(1)
        if p is not None:
            say(51 + i, p.value)
    return 0


class Guarded(Struct):
    lock: bpf_spin_lock
    hits: array[u64, 4]
    total: u64


guarded = Array[u32, Guarded](max_entries=2)


@tc
def locked(ctx: SkbContext) -> int:
    v = guarded.get(1)
    if v is None:
        return -1
    with v.lock:
        for i in range(4):
            v.hits[i] += i
            v.total += v.hits[i]
        total = v.total
        if total > 1_000_000:
            return 1
    say(54, total)
    spin_lock(v.lock)
    v.total = 3
    spin_unlock(v.lock)
    return s32(v.total)


class Record(Struct):
    id: u32
    length: u32
    text: char[16]


records = RingBuf[Record](size=4096)


@tc
def ringed(ctx: SkbContext) -> int:
    for i in range(5):
        r = records.reserve()
        if r is None:
            return -1
        r.id = i
        r.length = ctx.len
        r.text = "record"
        if i % 2:
            records.discard(r)
        else:
            records.submit(r, BPF_RB_NO_WAKEUP)
    own = Record(id=77, text="output")
    say(56, u64(records.output(own)))
    d = bpf_dynptr()
    if records.reserve_dynptr(24, d):
        d.discard()
        return -2
    d.write(0, own, 24)
    d.submit()
    say(57, records.query(BPF_RB_AVAIL_DATA))
    return 0


# -- objects of the kernel ---------------------------------------------------------------------------------------------------


class Leaf(Struct):
    key: u64
    data: u64
    node: bpf_rb_node


class Tree(Struct):
    root: rb_root[Leaf, "node"]
    lock: bpf_spin_lock


trees = Array[u32, Tree](max_entries=1)


def less(a: Ptr[bpf_rb_node], b: Ptr[bpf_rb_node]) -> bool:
    one = container_of(a, Leaf, "node")
    two = container_of(b, Leaf, "node")
    return one.key < two.key


@tc
def treed(ctx: SkbContext) -> int:
    tree = trees.get(0)
    if tree is None:
        return -1
    for i in range(5):
        leaf = obj_new(Leaf)
        if leaf is None:
            return -2
        leaf.key = (i * 3) % 5
        leaf.data = i
        with tree.lock:
            bpf_rbtree_add(tree.root, leaf.node, less)
    total: u64 = 0
    for i in range(5):
        got: Ptr[bpf_rb_node] | None = None
        with tree.lock:
            first = bpf_rbtree_first(tree.root)
            if first is not None:
                got = bpf_rbtree_remove(tree.root, first)
        if got is None:
            return -3
        item = container_of(got, Leaf, "node")
        total = total * 10 + item.data
        obj_drop(item)
    say(60, total)
    return 0


class Item(Struct):
    value: u32
    link: bpf_list_node


class Chain(Struct):
    head: list_head[Item, "link"]
    lock: bpf_spin_lock


chains = Array[u32, Chain](max_entries=1)


def take(list: Ptr[Chain], front: bool) -> u32:
    node: Ptr[bpf_list_node] | None = None
    with list.lock:
        if front:
            node = bpf_list_pop_front(list.head)
        else:
            node = bpf_list_pop_back(list.head)
    if node is None:
        return 99
    item = container_of(node, Item, "link")
    value = item.value
    obj_drop(item)
    return value


@tc
def listed(ctx: SkbContext) -> int:
    list = chains.get(0)
    if list is None:
        return -1
    for i in range(4):
        item = obj_new(Item)
        if item is None:
            return -2
        item.value = i
        with list.lock:
            if i & 1:
                bpf_list_push_front(list.head, item.link)
            else:
                bpf_list_push_back(list.head, item.link)
    total: u32 = 0
    total = total * 10 + take(list, True)
    total = total * 10 + take(list, False)
    total = total * 10 + take(list, True)
    total = total * 10 + take(list, True)
    return s32(total * 100 + take(list, True))


@syscall
def masks(ctx: Context) -> int:
    mask = bpf_cpumask_create()
    if mask is None:
        return -1
    bpf_cpumask_set_cpu(1, mask)
    plain = mask.cast(cpumask)
    result = bpf_cpumask_first(plain) * 100 + bpf_cpumask_weight(plain) * 10
    if bpf_cpumask_test_cpu(0, plain):
        result += 1
    bpf_cpumask_release(mask)
    return s32(result)


class Request(Struct):
    first: u64
    second: u32
    answer: u32


@syscall
def arguments(ctx: Ptr[Request]) -> int:
    ctx.answer = u32(ctx.first) * ctx.second
    ctx.first += 1
    return 5


@syscall
def own_task(ctx: Context) -> int:
    task = bpf_task_from_pid(s32(current_pid()))
    if task is None:
        return -1
    same = task.pid == s32(current_pid()) and task.tgid == s32(current_tgid())
    bpf_task_release(task)
    return 1 if same else 0


# -- dynamic pointers, packets ----------------------------------------------------------------------------------------------


scratch = Array[u32, array[u8, 64]](max_entries=1)


@tc
def pointers(ctx: SkbContext) -> int:
    memory = scratch.get(0)
    if memory is None:
        return -1
    d = bpf_dynptr()
    if dynptr_from_mem(memory, 64, 0, d):
        return -2
    x: u32 = 0x01020304
    d.write(8, addr(x), 4)
    copy = bpf_dynptr()
    bpf_dynptr_clone(d, copy)
    say(64, u64(bpf_dynptr_adjust(copy, 9, 20)))
    say(65, bpf_dynptr_size(copy))
    y: u16 = 0
    dynptr_read(addr(y), 2, copy, 0, 0)
    say(66, y)
    part = dynptr_data(d, 8, 2)
    if part:
        say(67, part.cast(u8)[1])
    return s32(memory[8])


@xdp
def sliced(ctx: XdpContext) -> int:
    d = bpf_dynptr()
    if bpf_dynptr_from_xdp(ctx, 0, d):
        return XDP_ABORTED
    room = array[u8, 20]()
    ip = bpf_dynptr_slice(d, 14, room, 20)
    if ip is None:
        return XDP_DROP
    header = ip.cast(iphdr)
    say(70, header.ttl)
    say(71, ntohl(header.saddr))
    return XDP_TX if header.protocol == IPPROTO_UDP else XDP_PASS


@xdp
def encapsulated(ctx: XdpContext) -> int:
    if xdp_adjust_head(ctx, -20):
        return XDP_ABORTED
    eth = ctx.packet(ethhdr)
    if eth is None:
        return XDP_DROP
    old = ctx.packet(ethhdr, 20)
    if old is None:
        return XDP_DROP
    eth.h_dest = old.h_source
    eth.h_source = old.h_dest
    eth.h_proto = old.h_proto
    ip = ctx.packet(iphdr, 14)
    inside = ctx.packet(iphdr, 34)
    if not ip or not inside:
        return XDP_DROP
    ip.version = 4
    ip.ihl = 5
    ip.tos = 0
    ip.tot_len = htons(ntohs(inside.tot_len) + 20)
    ip.id = 0
    ip.frag_off = 0
    ip.ttl = 64
    ip.protocol = IPPROTO_IPIP
    ip.check = 0
    ip.saddr = htonl(0xC0A80001)
    ip.daddr = inside.daddr
    words = ip.cast(u16)
    sum: u32 = 0
    for i in range(10):
        sum += words[i]
    sum = (sum & 0xFFFF) + (sum >> 16)
    ip.check = u16(~(sum + (sum >> 16)))
    if xdp_adjust_tail(ctx, -4):
        return XDP_ABORTED
    return XDP_TX


@tc
def translated(ctx: SkbContext) -> int:
    ip = ctx.packet(iphdr, 14)
    if ip is None or ip.protocol != IPPROTO_UDP:
        return TC_ACT_OK
    old = ip.daddr
    new: be32 = htonl(0x0A0A0A0A)
    l4 = 14 + u32(ip.ihl) * 4
    l3_csum_replace(ctx, 14 + offsetof(iphdr, "check"), old, new, 4)
    l4_csum_replace(ctx, l4 + offsetof(udphdr, "check"), old, new, BPF_F_PSEUDO_HDR | 4)
    skb_store_bytes(ctx, 14 + offsetof(iphdr, "daddr"), addr(new), 4, 0)
    udp = ctx.packet(udphdr, l4)
    if udp is None:
        return TC_ACT_SHOT
    udp.dest = htons(5353)
    ctx.mark = 17
    ctx.cb[2] = ctx.len
    return TC_ACT_UNSPEC


@tc
def parsed(ctx: SkbContext) -> int:
    eth = ethhdr()
    if skb_load_bytes(ctx, 0, eth):
        return -1
    match ntohs(eth.h_proto):
        case 0x0800:
            ip = iphdr()
            if skb_load_bytes(ctx, 14, ip) < 0:
                return -2
            data = bpf_dynptr()
            bpf_dynptr_from_skb(ctx, 0, data)
            ports = array[be16, 2]()
            if dynptr_read(ports, 4, data, 14 + u32(ip.ihl) * 4, 0):
                return -3
            say(74, u64(ntohs(ports[0])) << 16 | ntohs(ports[1]))
            return ip.protocol
        case 0x86DD:
            return 6
        case _:
            return 0


@cgroup_skb_ingress
def allowed(ctx: SkbContext) -> int:
    say(76, ctx.len)
    ip = ctx.packet(iphdr)
    if ip is None:
        return 1
    say(77, ip.ttl)
    return 0 if ip.ttl == 64 else 1


@sk_lookup
def looked_up(ctx: SkLookupContext) -> int:
    say(78, ctx.local_port)
    return SK_PASS if ctx.family == AF_INET else SK_DROP


# -- state of many kinds ------------------------------------------------------------------------------------------------------


class Tokens(Struct):
    tokens: u64
    refilled: u64


buckets = Hash[u32, Tokens](max_entries=16)


def admit(id: u32, now: u64) -> bool:
    bucket = buckets.get(id)
    if bucket is None:
        buckets[id] = Tokens(tokens=2, refilled=now)
        return True
    earned = (now - bucket.refilled) // 1000
    if earned:
        bucket.tokens = min(bucket.tokens + earned, 3)
        bucket.refilled += earned * 1000
    if bucket.tokens == 0:
        return False
    bucket.tokens -= 1
    return True


@tc
def limited(ctx: SkbContext) -> int:
    bits: u32 = 0
    for step in range(12):
        bits = bits << 1 | u32(admit(7, 5000 + step * 400))
    return s32(bits)


class State(IntEnum):
    CLOSED = 0
    OPEN = 1
    HALF = 2


class Machine(Struct):
    state: State
    failures: u32


def step_machine(m: Ptr[Machine], ok: bool) -> State:
    match m.state:
        case State.CLOSED:
            m.failures = 0 if ok else m.failures + 1
            if m.failures >= 3:
                m.state = State.OPEN
        case State.OPEN:
            m.state = State.HALF
        case State.HALF if ok:
            m.state = State.CLOSED
            m.failures = 0
        case _:
            m.state = State.OPEN
    return m.state


@tc
def machines(ctx: SkbContext) -> int:
    m = Machine()
    path: u64 = 0
    for i in range(16):
        ok = (0b1011000110001000 >> i) & 1 == 1
        path = path * 3 + step_machine(m, ok)
    say(80, path)
    return s32(m.failures)
