"""Ready-made tools, as `bpf2py tool` runs them: a file each, its eBPF program of the same name under programs/."""

from __future__ import annotations
