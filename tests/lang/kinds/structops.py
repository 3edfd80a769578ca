from bpf2py.lang import *

from bpf2py.lang.kernel import tcp_congestion_ops, sock


@struct_ops
def init(sk: Ptr[sock]) -> None:
    pass


@struct_ops
def ssthresh(sk: Ptr[sock]) -> u32:
    return 5


@struct_ops
def cong_avoid(sk: Ptr[sock], ack: u32, acked: u32) -> None:
    return


@struct_ops
def undo_cwnd(sk: Ptr[sock]) -> u32:
    return 3


mine = StructOps[tcp_congestion_ops](
    init=init, ssthresh=ssthresh, cong_avoid=cong_avoid, undo_cwnd=undo_cwnd, name="py_cc"
)
