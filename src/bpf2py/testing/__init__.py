"""For tests of eBPF programs: virtual machines with other kernels, and the pytest plugin (`bpf2py.testing.plugin`)."""

from bpf2py.testing.guest import Guest
from bpf2py.testing.on_kernels import verify_on
from bpf2py.testing.verdicts import Difference, ProgramReport, first_difference, verify

__all__ = ["Difference", "Guest", "ProgramReport", "first_difference", "verify", "verify_on"]
