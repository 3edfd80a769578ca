"""Programs of socket maps: SEC("sk_skb/stream_verdict"), SEC("sk_skb/stream_parser"), SEC("sk_skb/verdict"), SEC("sk_msg").

Since Linux 4.14.
"""

from __future__ import annotations

from bpf2py._typing import Any
from bpf2py.errors import AttachError
from bpf2py.kernel.attach import no_more_options, required
from bpf2py.kernel.link import KernelLink, ProgAttachment
from bpf2py.kernel.program_fd import ProgramFd
from bpf2py.spec.program_spec import ProgramSpec


def attach(program: ProgramFd, spec: ProgramSpec, options: dict[str, Any]) -> list[KernelLink]:
    """Attach; options: ``map``: the SOCKMAP or SOCKHASH whose sockets the program sees."""
    bpf_map = required(spec, options, "map", "obj.maps['sockets']")
    no_more_options(spec, options)
    if spec.attach_type is None:
        raise AttachError(
            f"program {spec.name}: attach: write SEC('sk_skb/stream_verdict') or SEC('sk_skb/stream_parser')"
        )
    return [
        ProgAttachment(
            program,
            f"program {spec.name}: attach",
            bpf_map.fileno(),
            spec.attach_type,
            f"{spec.section} of {bpf_map.name}",
        )
    ]
