"""How many of the kernel's own test programs could be written in the language of `bpf2py.lang`.

    tools/selftests_covered.py linux/tools/testing/selftests/bpf            the numbers
    tools/selftests_covered.py linux/tools/testing/selftests/bpf --list     and what stands in the way of each source

The sources come from a kernel's tree or a distribution's linux-source package; they are read, not compiled. A source counts as
covered where the language has all its helpers, kernel functions, map types, sections and features of C; kernel functions are those
of the running kernel's BTF and of the sources' own headers, types are not looked at.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from pathlib import Path

from bpf2py.isa.helpers import HELPERS_BY_NAME
from bpf2py.lang.kernel_types import KernelTypes
from bpf2py.lang.names import MAP_CLASSES
from bpf2py.uapi.sections import match

MAPS = {kind.name for kind in MAP_CLASSES.values()}
# Sections that are no programs: what the language writes otherwise, or does by itself.
DATA = re.compile(
    r"^(\.maps|maps|license|version|\.struct_ops(\.link)?|\.rodata|\.data|\.bss|\.bss\.graph|\.ksyms|\.kconfig)$"
)
# What the headers of libbpf and of the selftests define as macros or inline functions of theirs.
MACROS = re.compile(
    r"^bpf_(printk|htons|htonl|ntohs|ntohl|cpu_to_be64|be64_to_cpu|be32_to_cpu|cpu_to_be32|for|for_each|repeat|core_\w+|probe_read|"
    r"ksym_exists|obj_new|obj_drop|rdonly_cast|cast_to_kern_ctx|rbtree_add|list_push_\w+|refcount_acquire|wq_set_callback|throw|"
    r"tail_call_static|get_smp_processor_id|target_\w+|assert\w*|usdt_\w+|stream_printk|snprintf|seq_printf|core_read\w*|clamp_\w+|arena_\w+|"
    r"alloc|free|htonll|ntohll|percpu_obj_new|percpu_obj_drop|kfunc_\w+|preempt_\w+|local_irq_\w+|this_cpu_ptr|per_cpu_ptr|"
    r"iter_num_\w+|get_kmem_cache|attach_\w+|loop)$"
)
# Features of C without an equal in the language, by what a source says where it uses them.
FEATURES: dict[str, re.Pattern[str]] = {
    "assembly": re.compile(r"\basm\b|__naked|__asm__|__imm\("),
    "may_goto": re.compile(r"\b(cond_break|can_loop|may_goto)\b"),
    "argument tags": re.compile(r"__arg_(ctx|nonnull|trusted|nullable|dynptr|arena)\b"),
    "per-CPU objects": re.compile(r"__percpu_kptr|bpf_percpu_obj_new"),
    "untrusted kptrs": re.compile(r"__kptr_untrusted|__uptr\b"),
    "exception callbacks": re.compile(r"__exception_cb"),
    "data sections of their own": re.compile(r'SEC\("\.(data|rodata|bss)\.(?!A"|B"|C"|graph)'),
    "types of modules": re.compile(r"bpf_testmod|bpf_kfunc_call_test|prog_test_\w+|bpf_kfunc_\w*test|bpf_iter_testmod"),
    "memory and types by builtins": re.compile(r"__builtin_(btf_type_id|preserve_type_info|preserve_enum_value)"),
    "128-bit arithmetic": re.compile(r"__int128"),
    "local variants of kernel types": re.compile(r"\bstruct \w+___\w+\s*\{"),
    "computed jumps": re.compile(r"goto \*|&&\w+label"),
}
COMMENTS = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
CALL = re.compile(r"\b(bpf_\w+)\s*\(")


def source(path: Path, directories: list[Path], seen: set[Path] | None = None) -> str:
    """The text of a source, with the headers beside it; without comments."""
    seen = set() if seen is None else seen
    seen.add(path)
    text = COMMENTS.sub(" ", path.read_text(errors="replace"))
    for name in INCLUDE.findall(text):
        for directory in directories:
            header = directory / name
            # Of headers that all share, the macros are not a source's own features.
            own = header.is_file() and header not in seen and not header.name.startswith(("bpf_", "vmlinux"))
            if own and header.name not in ("core_reloc_types.h", "test_progs.h"):
                text += source(header, directories, seen)
                break
    return text


class Coverage:
    """What the language has, of the running kernel."""

    def __init__(self) -> None:
        self.kernel = KernelTypes()
        if self.kernel.btf is None:
            raise SystemExit("the running kernel has no BTF, so its functions are not known")

    def function(self, name: str, text: str) -> str | None:
        """What is in the way of calling a function, or None."""
        if name.removeprefix("bpf_") in HELPERS_BY_NAME or MACROS.match(name):
            return None
        if self.kernel.function(name) is not None or self.kernel.function(f"{name}_impl") is not None:
            return None
        if re.search(rf"\b{name}\s*\([^;{{}}]*\)\s*(__ksym|__weak)", text):
            return f"function {name} (not in this kernel)"
        return None  # a function of the source itself, or of its headers

    def blockers(self, text: str) -> list[str]:
        """What is in the way of a source."""
        found = [name for name, pattern in FEATURES.items() if pattern.search(text)]
        for section in re.findall(r'SEC\(\s*"([^"]*)"\s*\)', text):
            if (
                not DATA.match(section)
                and not section.startswith((".data", ".rodata", ".bss"))
                and match(section) is None
            ):
                found.append(f"section {section.partition('/')[0]}")
        found += [
            f"map type {kind}"
            for kind in re.findall(r"\bBPF_MAP_TYPE_(\w+)", text)
            if kind not in MAPS and kind != "UNSPEC"
        ]
        found += filter(None, (self.function(name, text) for name in sorted(set(CALL.findall(text)))))
        return sorted(set(found))


def main() -> None:
    """Count, and say what stands in the way most often."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", type=Path, help="tools/testing/selftests/bpf of a kernel's sources")
    parser.add_argument("--list", action="store_true", help="every source, with what stands in its way")
    arguments = parser.parse_args()
    progs = arguments.directory / "progs"
    paths = sorted(progs.glob("*.c"))
    if not paths:
        raise SystemExit(f"{progs} has no sources")
    coverage = Coverage()
    reasons: Counter[str] = Counter()
    covered = programs = 0
    for path in paths:
        blockers = coverage.blockers(source(path, [progs, arguments.directory]))
        has_program = re.search(r'SEC\(\s*"(?!\.maps|license|version)', path.read_text(errors="replace")) is not None
        programs += has_program
        covered += not blockers and has_program
        reasons.update(
            each.partition(" (")[0] if each.startswith(("function", "section")) else each for each in blockers
        )
        if arguments.list:
            print(f"{path.name}: {'; '.join(blockers) or 'covered'}")
    print(f"{len(paths)} sources, {programs} of them with programs: {covered} without a blocker")
    for reason, count in reasons.most_common(20):
        print(f"{count:5} {reason}")


if __name__ == "__main__":
    main()
