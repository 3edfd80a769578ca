from bpf2py.lang import *

from bpf2py.lang.kernel import bpf_dynptr_from_xdp, bpf_dynptr_slice, ethhdr, bpf_dynptr


@xdp
def f(ctx: XdpContext) -> int:
    d = bpf_dynptr()
    buf = ethhdr()
    if bpf_dynptr_from_xdp(ctx, 0, addr(d)):
        return XDP_DROP
    eth = bpf_dynptr_slice(d, 0, buf, sizeof(buf))
    if eth is None:
        return XDP_DROP
    e = eth.cast(ethhdr)
    if e.h_proto == 0:
        return XDP_TX
    return XDP_PASS
