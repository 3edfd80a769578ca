"""The public API: what it is called and takes is a decision, not an accident."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module

import pytest
from tools.api_snapshot import MODULES, SNAPSHOT, describe

import bpf2py
from bpf2py.codegen.module import generate


def test_the_snapshot() -> None:
    """After a change that is meant: `python tools/api_snapshot.py`, and an entry in the documentation."""
    assert describe() == SNAPSHOT.read_text()


@pytest.mark.parametrize("name", MODULES)
def test_public_modules_have_what_they_promise(name: str) -> None:
    module = import_module(name)
    assert len(set(module.__all__)) == len(module.__all__)
    for each in module.__all__:
        assert getattr(module, each) is not None
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = module.nonsense


def test_what_dir_shows_is_public() -> None:
    assert {name for name in dir(bpf2py) if not name.startswith("__")} == set(bpf2py.__all__)


def test_importing_the_package_is_cheap() -> None:
    code = """
import sys
import bpf2py, bpf2py.maps, bpf2py.readers, bpf2py.values
print(sorted(name for name in ("numpy", "typer", "rich", "elftools", "asyncio") if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_modules_that_are_generated_import_public_ones() -> None:
    source = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct event { int pid; };
union number { int small; long large; };
struct {
    __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4); __type(key, union number); __type(value, struct event);
} m SEC(".maps");
int counter;
SEC("raw_tp/x") int run(void *ctx) { return 0; }
char LICENSE[] SEC("license") = "GPL";
"""
    spec = bpf2py.ObjectSpec.from_bytes(bpf2py.compile(source))
    text = generate("made", spec, "made.o", "made.bpf.c", None, ())
    imported = set(re.findall(r"^\s*from (bpf2py[\w.]*) import", text, re.MULTILINE))
    assert imported == {"bpf2py", "bpf2py.maps", "bpf2py.values"}
