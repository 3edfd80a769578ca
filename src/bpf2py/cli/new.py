"""`bpf2py new`: a project to begin with: a program in C, its generated module, a test on the engine, and CI."""

from __future__ import annotations

import keyword
import re
from importlib.util import find_spec
from pathlib import Path

from bpf2py.cli import declared as typer
from bpf2py.codegen.build import Request, produce, write
from bpf2py.errors import BpfError

SOURCE = """\
// SPDX-License-Identifier: MIT
/* Counts the programs each user starts, and reports each as an event. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct started {
    __u32 pid;
    __u32 uid;
    char comm[16];
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1024);
    __type(key, __u32); /* uid */
    __type(value, __u64);
} by_user SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1 << 18); /* bytes */
    __type(value, struct started);
} events SEC(".maps");

__u64 lost; /* events there was no room for */

SEC("tracepoint/sched/sched_process_exec")
int on_exec(void *ctx)
{
    __u32 uid = bpf_get_current_uid_gid();
    __u64 zero = 0, *count = bpf_map_lookup_elem(&by_user, &uid);
    struct started *event;

    if (!count) { /* another CPU may be faster */
        bpf_map_update_elem(&by_user, &uid, &zero, BPF_NOEXIST);
        count = bpf_map_lookup_elem(&by_user, &uid);
    }
    if (count)
        __sync_fetch_and_add(count, 1);
    event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event) {
        __sync_fetch_and_add(&lost, 1);
        return 0;
    }
    event->pid = bpf_get_current_pid_tgid() >> 32;
    event->uid = uid;
    bpf_get_current_comm(event->comm, sizeof(event->comm));
    bpf_ringbuf_submit(event, 0);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
"""
MAIN = '''\
"""Print every program that is started: python -m {name} (as root)."""

from __future__ import annotations

import bpf2py

from {name}.program_bpfel import Objects


def main() -> None:
    """Follow the events until Ctrl-C, then print the counts."""
    with Objects.load() as obj, bpf2py.RingReader(obj.maps.events) as reader:
        obj.attach()
        try:
            for event in reader:
                print(event.pid, event.uid, event.comm)
        except KeyboardInterrupt:
            for uid, count in obj.maps.by_user.items():
                print(f"uid {{uid}}: {{count}} programs")


if __name__ == "__main__":
    main()
'''
TEST = '''\
"""Tests on the engine: no root, no kernel."""

from __future__ import annotations

from bpf2py import RingReader
from bpf2py.engine import Engine, Task

from {name}.program_bpfel import Objects

EXEC = "tracepoint/sched/sched_process_exec"


def test_programs_are_counted_by_user() -> None:
    engine = Engine()
    with Objects.load(backend=engine) as obj, RingReader(obj.maps.events) as reader:
        obj.attach()
        for pid, uid in ((10, 0), (11, 1000), (12, 1000)):
            engine.task = Task(pid, uid=uid, comm=f"job{{pid}}")
            engine.fire(EXEC)
        assert dict(obj.maps.by_user.items()) == {{0: 1, 1000: 2}}
        assert [(event.pid, event.comm) for batch in reader.flush() for event in batch] == [
            (10, "job10"), (11, "job11"), (12, "job12"),
        ]
        assert obj.variables.lost.value == 0
'''
PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["bpf2py"]

[project.optional-dependencies]
dev = ["bpf2py[cc]", "pytest"]

[project.scripts]
{name} = "{name}.__main__:main"

[tool.hatch.build.targets.wheel]
packages = ["{name}"]

[tool.pytest.ini_options]
pythonpath = ["."]
"""
CI = """\
name: test
on: [push, pull_request]
jobs:
  engine:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with: {python-version: "3.12"}
      - run: pip install --editable '.[dev]'
      - run: make check
"""
MAKEFILE = """\
# What is generated is committed: users of the project need no compiler.
{name}/program_bpfel.py: {name}/program.bpf.c
\tbpf2py gen program $< --output-dir {name} --type started

run: {name}/program_bpfel.py
\tpython -m {name}

check:
\tbpf2py gen program {name}/program.bpf.c --output-dir {name} --type started --check
\tpython -m pytest

.PHONY: run check
"""
README = """\
# {name}

Counts the programs each user starts.

    pip install --editable '.[dev]'
    make check                # generated files are up to date, tests on the engine: no root
    sudo $(which python) -m {name}    # on the kernel

`{name}/program.bpf.c` is the program; after a change `make {name}/program_bpfel.py` generates its module again.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(new)


def new(
    name: str = typer.Argument(..., help="The project's name, which is that of its package and directory."),
    directory: Path = typer.Option(None, metavar="DIRECTORY", help="Where to make it; by default ./NAME."),
) -> None:
    """Make a project: a program in C, the module generated from it, a test on the engine, and a workflow for CI.

    Examples:

        bpf2py new watcher

        bpf2py new watcher --directory /tmp/watcher
    """
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise BpfError(f"{name!r} is not a name of a Python package: use letters, digits and _")
    root = directory if directory is not None else Path(name)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise BpfError(f"{root} exists and is not an empty directory")
    package = root / name
    files = {
        package / "program.bpf.c": SOURCE,
        package / "__init__.py": f'"""{name}: counts the programs each user starts."""\n',
        package / "__main__.py": MAIN.format(name=name),
        root / "tests" / f"test_{name}.py": TEST.format(name=name),
        root / "pyproject.toml": PROJECT.format(name=name),
        root / ".github" / "workflows" / "test.yml": CI,
        root / "Makefile": MAKEFILE.format(name=name),
        root / "README.md": README.format(name=name),
        root / ".gitignore": "__pycache__/\n.venv/\ndist/\n",
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    made = produce(Request("program", package / "program.bpf.c", output_dir=package, types=("started",)))
    write(made)
    for path in (*files, *made):
        typer.echo(f"bpf2py: wrote {path}", err=True)
    install = "" if find_spec("pytest") else "python -m pip install pytest && "
    typer.echo(f"bpf2py: next: cd {root} && {install}python -m pytest, then bpf2py run {name}/program.bpf.c", err=True)
