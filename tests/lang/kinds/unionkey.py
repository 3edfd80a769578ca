from bpf2py.lang import *


class Ip(Union):
    v4: u32
    v6: array[u8, 16]


class Key(Struct):
    family: u16
    port: u16
    ip: Ip
    tail: u8


m = LruHash[Key, u32](max_entries=16)


@syscall
def f(ctx: Context) -> int:
    k = Key(family=2, port=80, ip=Ip(v4=7))
    m[k] = 4
    m[Key(family=2, port=80, ip=Ip(v4=7))] += 3
    k2 = Key()
    k2.family = 2
    k2.port = 80
    k2.ip.v4 = 7
    p = m.get(k2)
    if p is None:
        return -1
    del m[k]
    return s32(p.value) + (1 if k2 in m else 0)
