"""Numbers and facts of the kernel's BPF interface, as data: one table per file (kernel: include/uapi/linux/bpf.h)."""
