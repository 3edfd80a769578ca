"""`python -m bpf2py` is the command bpf2py."""

from __future__ import annotations

from bpf2py.cli import script

if __name__ == "__main__":
    script()
