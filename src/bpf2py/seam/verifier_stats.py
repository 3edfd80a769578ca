"""`VerifierStats`: what the end of a verifier log says of the work it took."""

from __future__ import annotations

from bpf2py._lazy import pattern
from bpf2py._typing import NamedTuple

__all__ = ["VerifierStats", "verifier_stats"]

# kernel/bpf/verifier.c: print_verification_stats(). Later kernels leave single numbers out, or add some.
_TIME = pattern(r"^verification time (\d+) usec$")
_STACK = pattern(r"^stack depth (\d+(?:\+\d+)*)")
_PROCESSED = pattern(r"^processed (\d+) insns")
_STATES = {
    name: pattern(rf"\b{name} (\d+)") for name in ("max_states_per_insn", "total_states", "peak_states", "mark_read")
}


class VerifierStats(NamedTuple):
    """What verifying a program took.

    Attributes:
        duration_us: microseconds it took.
        instructions: instructions walked through; the kernel gives up after a million (Linux 5.2).
        states: states of the program that were kept to compare with.
        peak_states: the most there were at once.
        max_states_per_instruction: the most for a single instruction.
        mark_read: the longest chain of states a register read was marked in; 0 on kernels that do not say.
        stack_depths: bytes of stack of the program, and of each of its functions after it.
    """

    duration_us: int
    instructions: int
    states: int
    peak_states: int
    max_states_per_instruction: int
    mark_read: int
    stack_depths: tuple[int, ...]

    @property
    def stack_depth(self) -> int:
        """Bytes of stack of the program and its functions together, as the kernel's veristat counts them."""
        return sum(self.stack_depths)


def verifier_stats(log: str) -> VerifierStats | None:
    """The statistics at the end of a verifier log; None where it has none (they need level 4)."""
    time = stack = processed = None
    for line in reversed(log.splitlines()):
        if processed is None:
            processed = line if _PROCESSED.match(line) else None
            continue
        # All three stand together: what is further up belongs to something else.
        stack = stack or _STACK.match(line)
        time = _TIME.match(line)
        if time is not None:
            break
    if processed is None or time is None:
        return None
    walked = _PROCESSED.match(processed)
    found = {name: expression.search(processed) for name, expression in _STATES.items()}
    number = {name: int(match[1]) if match is not None else 0 for name, match in found.items()}
    return VerifierStats(
        duration_us=int(time[1]),
        instructions=int(walked[1]) if walked is not None else 0,
        states=number["total_states"],
        peak_states=number["peak_states"],
        max_states_per_instruction=number["max_states_per_insn"],
        mark_read=number["mark_read"],
        stack_depths=tuple(int(part) for part in stack[1].split("+")) if stack is not None else (),
    )
