"""eBPF for Python."""
