"""Error numbers of Linux on all CPUs it supports here, whatever system this runs on.

include/uapi/asm-generic/errno-base.h and errno.h; ENOTSUPP is the kernel's own (include/linux/errno.h), and bpf() gives it too.
"""

EPERM = 1
ENOENT = 2
ESRCH = 3
EINTR = 4
EIO = 5
ENXIO = 6
E2BIG = 7
EBADF = 9
EAGAIN = 11
ENOMEM = 12
EACCES = 13
EFAULT = 14
EBUSY = 16
EEXIST = 17
ENODEV = 19
EINVAL = 22
ENFILE = 23
EMFILE = 24
ENOSPC = 28
ERANGE = 34
EDEADLK = 35
ENOSYS = 38
ENODATA = 61
ENOPKG = 65
EBADMSG = 74
EOVERFLOW = 75
EBADFD = 77
ENOTSOCK = 88
ENOPROTOOPT = 92
EOPNOTSUPP = 95
EAFNOSUPPORT = 97
ENOBUFS = 105
EALREADY = 114
ENOKEY = 126
EKEYEXPIRED = 127
EKEYREVOKED = 128
EKEYREJECTED = 129
ENOTSUPP = 524
