"""Network namespaces: SEC("sk_lookup") (Linux 5.9) and SEC("flow_dissector") (link since 5.8)."""

from __future__ import annotations

import os

from bpf2py._typing import Any
from bpf2py.errors import AttachError
from bpf2py.kernel.attach import make_link, no_more_options
from bpf2py.kernel.link import KernelLink
from bpf2py.kernel.program_fd import ProgramFd
from bpf2py.spec.program_spec import ProgramSpec


def attach(program: ProgramFd, spec: ProgramSpec, options: dict[str, Any]) -> list[KernelLink]:
    """Attach; options: ``netns``: path of a network namespace (default: that of this thread).

    A namespace takes one flow dissector (none where the initial namespace has one), and several sk_lookup programs.
    """
    path = str(options.pop("netns", "/proc/thread-self/ns/net"))
    no_more_options(spec, options)
    assert spec.attach_type is not None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise AttachError(
            f"program {spec.name}: attach: {path}: {error.strerror}", errno=error.errno, command="open"
        ) from None
    try:
        reasons = {17: "the initial network namespace has one already", 7: "the namespace has one already"}
        return [make_link(program, spec, fd, spec.attach_type, f"{spec.section} of {path}", reasons=reasons)]
    finally:
        os.close(fd)
