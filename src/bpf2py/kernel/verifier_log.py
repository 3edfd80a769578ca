"""Reading the verifier's log: which lines matter, and which instruction was refused."""

from __future__ import annotations

from bpf2py._lazy import pattern
from bpf2py._typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import re

# A state line: "12: (85) call bpf_map_lookup_elem#1"; kernels before 5.x and the newest agree on it.
_INSTRUCTION = pattern(r"^(\d+): \([0-9a-f]{2}\) (.*)")
# What the verifier writes behind an instruction, without a new line.
_SAME_LINE = pattern(r" (infinite loop detected at insn \d+)$")
_NOISE = pattern(
    r"^(processed \d+ insns|verification time|stack depth|max_states|peak_states|mark_precise|from \d+ to \d+|"
    r"R\d+(_w)?=|frame\d+:|caller:|callee:|last_idx|regs=|parent didn't|func#\d+ @|Validating |arg#\d+ |"
    r"\d+: R|\d+: frame|\d+: \.+$|old state|cur state|reg type unsupported|;|#|libbpf|\s*$)"
)
# What Linux 7.3 adds to the log of a program it refuses: a title, then sections (Reason, At, Causal path, Suggestion).
_REPORT = "\nVerification failed: "


class LogSummary(NamedTuple):
    """The gist of a verifier log.

    Attributes:
        lines: the message the verifier ended with, one or several lines.
        instruction: index of the instruction it was at, or None.
        text: that instruction as the verifier prints it.
        source: the source line the log showed for it, or None.
        reason: why, in a sentence or two of the verifier's own; empty before Linux 7.3.
        suggestion: what it suggests; empty before Linux 7.3.
    """

    lines: list[str]
    instruction: int | None
    text: str
    source: str | None
    reason: str = ""
    suggestion: str = ""


def summarize(log: str) -> LogSummary:
    """Find the last instruction and the message behind it."""
    log, _, report = log.partition(_REPORT)
    instruction, text, source, shown_source = None, "", None, None
    message: list[str] = []
    for line in log.splitlines():
        found = _INSTRUCTION.match(line)
        if found:
            instruction, text = int(found[1]), found[2].split(" ;", 1)[0].strip()
            shown_source, message = source, []
            behind = _SAME_LINE.search(text)
            if behind:
                text, message = text[: behind.start()], [behind[1]]
        elif line.startswith("; "):
            source = line[2:].strip()
        elif not _NOISE.match(line):
            message.append(line.strip())
    if not message:
        kept = [line.strip() for line in log.splitlines() if not _NOISE.match(line) and not _INSTRUCTION.match(line)]
        message = kept[-2:]
    reason, suggestion = (_section(report, title) for title in ("Reason:", "Suggestion:"))
    return LogSummary(message[-4:], instruction, text, shown_source, reason, suggestion)


def _section(report: str, title: str) -> str:
    """A section's text, which is indented, as one line."""
    _, _, rest = report.partition(f"\n{title}\n")
    return " ".join(rest.partition("\n\n")[0].split())


class _Hint(NamedTuple):
    pattern: re.Pattern[str]
    text: str
    python: str  # the same for a program in Python; empty: no different


_HINTS = [
    _Hint(pattern(expression), text, python)
    for expression, text, python in (
        (r"invalid mem access '\w*_or_null|Possibly NULL pointer|_or_null.*invalid",
         "compare the pointer with NULL before using it: bpf_map_lookup_elem() and the like may return NULL",
         "test the pointer for None before using it"),
        (r"invalid access to packet|pkt.*off.*outside of the packet|offset is outside of the packet",
         "check that data + offset + size <= data_end before reading the packet",
         "the packet may end before this byte: p = ctx.packet(T, offset) gives what lies there, or None"),
        (r"invalid read from stack|invalid indirect read from stack|!read_ok|uninitialized",
         "initialise the variable (padding too: = {} or __builtin_memset) before it is read or passed to a helper",
         "keep the index within the array: if i >= len(a): return 0, or i % len(a)"),
        (r"invalid unbounded variable-offset|invalid variable-offset",
         "bound the index or offset before the access: if (i >= SIZE) return 0;",
         "keep the index within the array: if i >= len(a): return 0, or i % len(a)"),
        (r"combined stack size|stack depth|invalid stack off|Looks like the BPF stack limit",
         "the stack holds 512 bytes over all frames: move large buffers into a per-CPU array map",
         "the stack holds 512 bytes over all functions that call each other: keep large variables in a map of one element, "
         "scratch = PerCpuArray[u32, Big](max_entries=1)"),
        (r"back-edge|infinite loop detected|loop is not bounded",
         "bound the loop by a constant, or use bpf_for(), bpf_loop() or may_goto",
         "the verifier finds no end to this loop: write for i in range(N), with a break"),
        (r"BPF program is too large|processed \d+ insns.*limit|The sequence of \d+ jumps is too complex|too many states",
         "the verifier's budget of 1 million instructions is used up: shorten loops or move bodies into global functions",
         "the verifier walks through every round of this loop and its budget is used up: for i in range(n), with n a variable, "
         "is counted by the kernel's iterator; or make the body a @global_function"),
        (r"unknown func|program of this type cannot use helper|helper call is not allowed",
         "this helper is not available to this program type (or needs a GPL-compatible license, or a newer kernel)", ""),
        (r"cannot call GPL-restricted function|cannot call GPL only function|gpl_only|GPL compatible",
         'declare a GPL-compatible license: char LICENSE[] SEC("license") = "GPL";', 'write LICENSE = "GPL"'),
        (r"invalid access to map value|invalid access to memory, mem_size|min value is negative|unbounded "
         r"(min|max) value|unbounded memory access|"
         r"max value is outside",
         "bound the index or offset before the access: if (i >= SIZE) return 0; or mask it with a power of two minus one",
         "keep the index or length within the memory: if i >= len(a): return 0, min(n, sizeof(a)), or i % len(a)"),
        (r"func 'bpf_multi_func' doesn't have",
         "the functions it is attached to differ in their arguments: read them by bpf_get_func_arg(ctx, n, &value)",
         "the functions it is attached to differ in their arguments: read them by get_func_arg(ctx, n, addr(value))"),
        (r"invalid mem access 'scalar'|invalid mem access 'inv'|invalid bpf_context access",
         "read kernel memory through BPF_CORE_READ() or bpf_probe_read_kernel(), and only documented fields of the context",
         "this is not memory that the program may use directly: read_kernel(copy, p) copies it; of a context, only some fields are "
         "written to"),
        (r"cannot write into|write into map forbidden|only read is supported|read-only",
         "this memory is read-only for programs of this type", ""),
        (r"unreachable insn",
         "remove the dead code, or compile with optimisation (-O2)", ""),
        (r"slot poisoned by dead code elimination",
         "Linux 7.3 takes the value that bpf_map_peek_elem() looks for in a BLOOM_FILTER for one it writes, and forgets what is on "
         "the stack: set it right before each call, or keep it in a global variable",
         "Linux 7.3 forgets a variable that a BloomFilter is asked for: set it right before, or keep it in a global variable"),
        (r"doesn't match map's excl_prog_hash",
         "a map it uses is exclusive to another program, or to another version of this one", ""),
        (r"reference.*leak|Unreleased reference",
         "release what was acquired on every path: bpf_ringbuf_submit() or _discard(), bpf_sk_release() ...",
         "give back what was taken on every way through the program: submit(), discard(), sk_release() ..."),
    )
]  # fmt: skip


def hint_for(summary: LogSummary, python: bool = False) -> str | None:
    """What usually fixes the rejection, of a program in C or in Python; None when unsure."""
    text = "\n".join(summary.lines)
    own = summary.suggestion or None
    found = next((hint for hint in _HINTS if hint.pattern.search(text)), None)
    return own if found is None else (found.python or found.text) if python else found.text
