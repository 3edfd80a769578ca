"""The running Linux kernel as a backend: bpf() and the system calls around it."""
