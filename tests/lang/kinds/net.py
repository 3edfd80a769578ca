from bpf2py.lang import *

from bpf2py.lang.kernel import iphdr, ethhdr, bpf_fib_lookup, bpf_sock_tuple, bpf_redir_neigh


@tc
def f(ctx: SkbContext) -> int:
    ip = ctx.packet(iphdr, sizeof(ethhdr))
    if ip is None:
        return TC_ACT_OK
    old = ip.daddr
    new: be32 = htonl(0x0A000001)
    off = sizeof(ethhdr) + offsetof(iphdr, "check")
    l3_csum_replace(ctx, off, old, new, sizeof(new))
    skb_store_bytes(ctx, sizeof(ethhdr) + offsetof(iphdr, "daddr"), addr(new), 4, 0)
    fib = bpf_fib_lookup()
    fib.family = AF_INET
    fib.ipv4_src = old
    fib.ifindex = ctx.ifindex
    rc = fib_lookup(ctx, fib, sizeof(fib), 0)
    if rc == 0:
        return s32(redirect(fib.ifindex, 0))
    tuple = bpf_sock_tuple()
    tuple.ipv4.saddr = old
    tuple.ipv4.dport = htons(80)
    sk = sk_lookup_tcp(ctx, tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0)
    if sk is not None:
        port = sk.src_port
        sk_release(sk)
    s = csum_diff(addr(old), 4, addr(new), 4, 0)
    return TC_ACT_OK
