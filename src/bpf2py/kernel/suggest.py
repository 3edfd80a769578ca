"""What may have been meant by a name the kernel does not know; asked only after a failure."""

from __future__ import annotations

from bpf2py.errors import BpfError

# The types BTF keeps for each kind of attach target carry these prefixes.
PREFIXES = {"TRACE_RAW_TP": "btf_trace_", "LSM_MAC": "bpf_lsm_", "TRACE_ITER": "bpf_iter_"}


def did_you_mean(attach_type: str, target: str) -> str:
    """``"; did you mean ...?"`` with the nearest names in the kernel's BTF, or an empty string."""
    import difflib

    from bpf2py.btf.vmlinux import vmlinux

    prefix = PREFIXES.get(attach_type, "")
    # Functions are many: only those that begin alike are compared.
    start = prefix or target[:3]
    try:
        names = [name.removeprefix(prefix) for name in vmlinux().names_with_prefix(start)]
    except BpfError:
        return ""  # a kernel without BTF
    near = difflib.get_close_matches(target, names, 3)
    return f"; did you mean {' or '.join(near)}?" if near else ""
