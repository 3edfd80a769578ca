"""A security module: nobody opens a file of the device and inode in `secret`."""

from bpf2py.lang import *
from bpf2py.lang.kernel import file


class Secret(Struct):
    device: u32
    inode: u64


secret: Secret = Secret()
refused: u64 = 0


@lsm("file_open")
def on_open(opened: Ptr[file], ret: int) -> int:
    global refused
    if ret:
        return s32(ret)
    inode = opened.f_inode
    if inode.i_ino == secret.inode and inode.i_sb.s_dev == secret.device:
        refused += 1
        return -EPERM
    return 0
