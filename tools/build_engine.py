"""Compile the engine's library, src/bpf2py/engine/sources/maps.c, to the object that is shipped: src/bpf2py/engine/maps/maps.bpf.o.

Run by whoever changes a source there: ``python tools/build_engine.py``; ``--check`` only says whether the object is fresh. The
compiler is one version of ziglang (extra ``cc``), so that the same sources give the same bytes everywhere.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import subprocess
import sys
import tempfile
from pathlib import Path

ZIGLANG = "0.17.1"
ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "src/bpf2py/engine/sources"
OBJECT = ROOT / "src/bpf2py/engine/maps/maps.bpf.o"
# No builtins: loops must not become calls of memcpy. No jump tables, unwind tables, notes: code and symbols are all there is.
FLAGS = """
-target bpfel-freestanding -mcpu=v3 -O2 -Wall -Wextra -Werror -fno-builtin -fno-jump-tables -fno-strict-aliasing
-fno-unroll-loops -fno-ident -fno-asynchronous-unwind-tables -fno-unwind-tables -fno-addrsig
""".split()


def compile_library() -> bytes:
    """The object's bytes. Raises SystemExit when the compiler is another version, or refuses, or leaves something undefined."""
    try:
        version = importlib.metadata.version("ziglang")
    except importlib.metadata.PackageNotFoundError:
        version = "none"
    if version != ZIGLANG:
        raise SystemExit(
            f"build_engine: ziglang {ZIGLANG} is wanted, {version} is installed: pip install ziglang=={ZIGLANG}"
        )
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "maps.o"
        command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, "-c", "maps.c", "-o", str(output)]
        if subprocess.run(command, cwd=SOURCES, check=False).returncode:
            raise SystemExit("build_engine: the compiler failed")
        data = output.read_bytes()
    sys.path.insert(0, str(ROOT / "src"))
    from bpf2py.elf.layout import SHN_UNDEF
    from bpf2py.elf.object_file import ElfFile

    missing = [symbol.name for symbol in ElfFile(data, "maps.o").symbols if symbol.section == SHN_UNDEF and symbol.name]
    if missing:
        raise SystemExit(f"build_engine: undefined: {', '.join(missing)}")
    return data


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail when the object is not what the sources give"
    )
    options = parser.parse_args()
    data = compile_library()
    fresh = OBJECT.exists() and OBJECT.read_bytes() == data
    if options.check and not fresh:
        raise SystemExit(f"build_engine: {OBJECT.relative_to(ROOT)} is stale: run python tools/build_engine.py")
    if not fresh:
        OBJECT.write_bytes(data)
    print(f"{OBJECT.relative_to(ROOT)}: {len(data)} bytes{'' if not fresh else ', fresh'}")


if __name__ == "__main__":
    main()
