"""Typed Python modules from eBPF objects, as bpf2go makes Go packages."""
