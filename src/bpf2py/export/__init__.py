"""Metrics of the machine's eBPF objects, for Prometheus (extra ``bpf2py[prometheus]``)."""
