"""For tests of eBPF programs: the pytest plugin, see `bpf2py.testing.plugin`."""
