from bpf2py.lang import *


class Act(IntEnum):
    PASS = 2
    DROP = 1


class Addr(Union):
    v4: u32
    v6: array[u32, 4]


class Flags(Struct):
    a: bits[u32, 3]
    b: bits[u32, 5]
    act: Act
    addr: Addr


g: Flags = Flags(a=1, act=Act.DROP)


@xdp
def f(ctx: XdpContext) -> int:
    match g.act:
        case Act.PASS | Act.DROP:
            g.b = 4
        case 5:
            g.a = 2
        case _:
            return 0
    g.addr.v6[2] = 4
    if g.a == 1 and 1 <= g.b < 9:
        return Act.PASS
    return Act.DROP if g.a else 0
