"""Write src/bpf2py/uapi/syscalls.py: the names of system calls by number, from the headers of the ziglang wheel.

python tools/gen_syscalls.py
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import ziglang  # type: ignore[import-untyped]

OUTPUT = Path(__file__).parents[1] / "src" / "bpf2py" / "uapi" / "syscalls.py"
MACHINES = {"x86_64": "x86-linux-any", "aarch64": "aarch64-linux-any"}
HEAD = '''"""System calls by number, for x86-64 and aarch64; written by tools/gen_syscalls.py.

Source of facts: the kernel's UAPI headers asm/unistd_64.h.
"""

from __future__ import annotations

import os
from functools import cache

__all__ = ["syscall_name", "syscall_names"]

# ``number:name name ...``: runs of consecutive numbers.
_TABLES = {
'''
TAIL = '''}


@cache
def syscall_names(machine: str = "") -> dict[int, str]:
    """Names by number for a machine (this one without): ``{0: "read", ...}``; empty for machines without a table."""
    names: dict[int, str] = {}
    number = 0
    for word in _TABLES.get(machine or os.uname().machine, "").split():
        start, colon, name = word.rpartition(":")
        if colon:
            number = int(start)
        names[number] = name
        number += 1
    return names


def syscall_name(number: int) -> str:
    """The name of a system call of this machine, ``syscall_N`` where it is not known."""
    return syscall_names().get(number, f"syscall_{number}")
'''


def table(directory: str) -> str:
    """The words of one machine's table."""
    header = Path(ziglang.__file__).parent / "lib" / "libc" / "include" / directory / "asm" / "unistd_64.h"
    found = {
        int(number): name
        for name, number in re.findall(r"#define __NR_(\w+)\s+(\d+)", header.read_text())
        if name not in ("syscalls", "arch_specific_syscall")
    }
    words, expected = [], -1
    for number, name in sorted(found.items()):
        words.append(name if number == expected else f"{number}:{name}")
        expected = number + 1
    return "\n".join(textwrap.wrap(" ".join(words), 118, break_long_words=False, break_on_hyphens=False))


def main() -> None:
    """Write the file."""
    text = HEAD
    for machine, directory in MACHINES.items():
        text += f'    "{machine}": """\n{table(directory)}\n""",\n'
    OUTPUT.write_text(text + TAIL)


if __name__ == "__main__":
    main()
