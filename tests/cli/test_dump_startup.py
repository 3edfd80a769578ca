"""What `map dump --json` imports: programs call it often, and most of its time would go into modules it does not need."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bpf2py import Map, MapType

# Each took milliseconds, for objects, programs, networks and tables nobody asked for.
NOT_NEEDED = {
    "bpf2py.linker.core", "bpf2py.linker.link", "bpf2py.object", "bpf2py.elf.object_file", "bpf2py.spec.object_spec",
    "bpf2py.spec.program_spec", "bpf2py.uapi.program_types", "bpf2py.uapi.sections", "bpf2py.kernel.program",
    "bpf2py.kernel.attach", "bpf2py.kernel.inspect", "bpf2py.engine", "ipaddress", "platform", "numpy", "typer", "rich",
}  # fmt: skip
CODE = """
import sys
from bpf2py.cli import main
main(["map", "dump", sys.argv[1], "--json"])
print(*sys.modules, file=sys.stderr)
"""


@pytest.mark.kernel
def test_only_what_reading_a_map_needs() -> None:
    with Map.create(MapType.HASH, key="u32", value="u64", max_entries=4, name="startup") as numbers:
        numbers[1] = 2
        argv = [sys.executable, "-c", CODE, str(numbers.info.id)]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[{")
    imported = set(done.stderr.split())
    assert "bpf2py.kernel.map" in imported
    assert not NOT_NEEDED & imported
