"""The embedded engine: eBPF programs and maps in the process, without the kernel and without privileges."""
