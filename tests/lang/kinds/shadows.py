from bpf2py.lang import *
from bpf2py.lang.kernel import ethhdr


class R(Struct):
    class_: u32
    int: u32


@xdp
def f(ctx: XdpContext) -> int:
    packet = ctx.packet(ethhdr)
    if packet is None:
        return XDP_DROP
    same_text = char[8]()
    same_text = "abc"
    r = R(class_=3)
    shl_u32_ = u32(1) << (packet.h_proto & 63)
    value_ = 5 if same_text == "abc" else 0
    NULL = r.class_ // (shl_u32_ + 1)
    return s32(value_ + NULL)
