"""Draw the pictures of the documentation; ``--check`` only compares them.

They come from programs that run on the engine, so they are the same everywhere. Those of the kernel are recorded: the terminals and
the page of ``bpf2py top --web``. ``--record`` records them anew, or only those that it names; it needs root, and for the page
Chromium. The stacks of the flame graph are in busy.folded.
"""

from __future__ import annotations

import argparse
import html
import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
from tools.page_picture import page_picture

import bpf2py
from bpf2py.engine import Engine, Task
from bpf2py.lab.lru import Setup, survivors
from bpf2py.lab.plot import hit_rates
from bpf2py.symbols import Stacks
from tools import drawings

HERE = Path(__file__).parent
IMAGES = HERE.parent / "docs" / "images"
EXACT = ("logo.svg", "lru.svg", "flame-graph.svg", "flame-graph.html")
SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct opens { __u64 count; __u64 failed; };
struct name { char comm[16]; };
struct opened { __u32 pid; char comm[16]; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1024); __type(key, struct name); __type(value, struct opens); }
    opens SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_HASH); __uint(max_entries, 1024); __type(key, __u32); __type(value, __u64); }
    by_user SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 24); __type(key, __u32); __type(value, __u64); }
    latency_hist_ns SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 16); __type(value, struct opened); } events SEC(".maps");
__u64 lost;

SEC("tracepoint/syscalls/sys_enter_openat") int on_open(void *ctx)
{
    struct opens first = {}, *found;
    struct opened event = {.pid = bpf_get_current_pid_tgid() >> 32};
    __u32 uid = bpf_get_current_uid_gid(), slot = 8 + (bpf_get_prandom_u32() & 7) + (bpf_get_prandom_u32() & 3);
    __u64 one = 1, *count;
    struct name name = {};

    bpf_get_current_comm(name.comm, sizeof(name.comm));
    __builtin_memcpy(event.comm, name.comm, sizeof(event.comm));
    bpf_map_update_elem(&opens, &name, &first, BPF_NOEXIST);
    found = bpf_map_lookup_elem(&opens, &name);
    if (found) {
        found->count++;
        found->failed += slot == 18;
    }
    count = bpf_map_lookup_elem(&by_user, &uid);
    if (count)
        *count += 1;
    else
        bpf_map_update_elem(&by_user, &uid, &one, BPF_ANY);
    count = bpf_map_lookup_elem(&latency_hist_ns, &slot);
    if (count)
        *count += 1;
    bpf_ringbuf_output(&events, &event, sizeof(event), 0);
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""
SIZES = (10, 20, 50, 100, 200, 500, 1000, 2000, 4096)
RECORDED = "recorded.svg"
PAGE = "top-web.webp"
PROGRAM = """\
from bpf2py.lang import *

class Name(Struct):
    comm: char[16]

opens = Hash[Name, u64](max_entries=1024)

@tracepoint("syscalls/sys_enter_openat")
def on_open(ctx: TracepointContext) -> int:
    name = Name()
    current_comm(name.comm)
    opens[name] += 1
    return 0
"""
TEST = """\
def test_opens_are_counted(bpf2py):
    obj = bpf2py.load("opens.py")
    bpf2py.fire("tracepoint/syscalls/sys_enter_openat")
    assert len(obj.maps["opens"]) == 1
"""
# What is typed in the recorded terminals, after a file is made of each of these.
TYPED = ("cat opens.py", "sudo bpf2py run opens.py -- make", "cat test_opens.py", "pytest -q test_opens.py   # no root")
SERVER = """\
import asyncio, gc, time

def query():
    time.sleep(0.2)

async def handler():
    await asyncio.sleep(0.1)
    query()
    gc.collect()

asyncio.run(handler())
"""
TRANSFER = """\
import socket, threading
server = socket.create_server(("127.0.0.1", 0))
def serve():
    with server.accept()[0] as connection:
        connection.sendall(bytes(7_000_000))
thread = threading.Thread(target=serve)
thread.start()
with socket.create_connection(server.getsockname()) as client:
    while client.recv(65536):
        pass
thread.join()
"""
TOOLS_TYPED = (
    "cat server.py",
    "sudo bpf2py tool asyncio-block -- python3 server.py",
    "sudo bpf2py tool pygc --min 0.2 -- python3 server.py | grep -v '?'",
    "sudo bpf2py tool tcptop -- python3 transfer.py",
    "sudo bpf2py tool argdist libc:malloc -v arg1 -H --unit bytes -- make",
)
TERMINALS = {
    RECORDED: ("eBPF in Python", TYPED, {"opens.py": PROGRAM, "test_opens.py": TEST}, 80),
    "tools.svg": ("bpf2py tool", TOOLS_TYPED, {"server.py": SERVER, "transfer.py": TRANSFER}, 96),
}
SHOWN = {RECORDED: ("opens.py", "test_opens.py"), "tools.svg": ("server.py",)}
COMMANDS = {"cc1": 410, "make": 88, "as": 61, "git": 33, "sh": 24, "ld": 17, "python": 9, "sshd": 3}


def loaded(engine: Engine) -> Any:
    """The program, after some hundred events."""
    obj = bpf2py.load(bpf2py.ObjectSpec.from_bytes(bpf2py.compile(SOURCE), "opens"), engine)
    obj.attach()
    for number, (comm, count) in enumerate(COMMANDS.items()):
        engine.task = Task(4000 + 7 * number, uid=1000 if count > 5 else 0, comm=comm)
        for turn in range(count):
            with engine.cpu(turn & 3):
                engine.fire("tracepoint/syscalls/sys_enter_openat")
    return obj


def theme() -> Any:
    """The colours of the recorded terminal, for rich."""
    from rich.terminal_theme import TerminalTheme

    colours = ("0f1b2a", "f87171", "4ade80", "facc15", "60a5fa", "c084fc", "7dd3fc", "d5dce5")
    ansi = [(int(c[:2], 16), int(c[2:4], 16), int(c[4:], 16)) for c in colours]
    return TerminalTheme(ansi[0], ansi[-1], ansi)


def live_view(obj: Any, width: int, height: int) -> str:
    """The live view of a terminal of that size, as SVG."""
    from rich.console import Console
    from rich.text import Text

    from bpf2py.cli.follow import Sources, record_codecs
    from bpf2py.cli.screen import screen
    from bpf2py.cli.session import Session, Shown

    console = Console(
        record=True, width=width, height=height, file=io.StringIO(), force_terminal=True, legacy_windows=False
    )
    with Sources(obj, record_codecs(obj.spec, b"", {})) as sources:
        session = Session(obj, sources, Shown([], 20, False, False, {}, True, 1.0))
        said = list(sources.take())[-4:]
        for saying in said:
            console.print(Text.assemble((f"{saying.label}: ", "magenta"), saying.text))
        console.print(Text("running for 12 s", style="dim"))
        for row in screen(session.blocks(width), height - len(said) - 2)[0]:
            console.print(row)
    drawn = console.export_svg(title="bpf2py run opens.bpf.c", theme=theme(), unique_id=f"live{width}")
    drawn = re.sub(r"\s*@font-face \{[^}]*\}", "", drawn).replace("Fira Code, monospace", drawings.MONO)
    return re.sub(r"[ \t]+$", "", drawn, flags=re.MULTILINE) + "\n"


def record(name: str) -> str:
    """The commands of a terminal, run now, and what they answered."""
    title, typed, files, width = TERMINALS[name]
    rows: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        for file, text in files.items():
            (work / file).write_text(text)
        (work / "hello.c").write_text('#include <stdio.h>\nint main(void) { return puts("hello") < 0; }\n')
        (work / "Makefile").write_text("hello: hello.c\n\tcc -O2 -o hello hello.c\n")
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "COLUMNS": str(width),
        }
        for command in typed:
            (work / "hello").unlink(missing_ok=True)
            done = subprocess.run(
                ["sh", "-c", command.removeprefix("sudo ")], cwd=work, env=environment, text=True, check=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            rows.append(("command", command))
            for line in done.stdout.rstrip().splitlines():
                kind = "note" if line.startswith("bpf2py:") else "head" if _is_head(line) else "output"
                rows += [(kind, part) for part in re.findall(rf".{{1,{width}}}(?:\s|$)", line) or [""]]
            rows.append(("pause", ""))
    return drawings.terminal(title, rows[:-1], width)


def _is_head(line: str) -> bool:
    return line.startswith("opens (") or re.match(r"(?:TIME |\s+PID |arg1:)", line) is not None


def lru_plot() -> str:
    """What LRU maps keep of one key more than they have room for, inserted on one CPU: by size and kernel."""
    machines = {"6.1, any CPUs": ("6.1", 4), **{f"6.12, {n} CPU{'s' * (n > 1)}": ("6.12", n) for n in (1, 2, 4, 8)}}
    curves = {
        name: [(size, len(survivors(Setup(size, cpus, kernel), size + 1, [0])[0]) / size) for size in SIZES]
        for name, (kernel, cpus) in machines.items()
    }
    return hit_rates(curves, "Keys that are left of max_entries + 1")


def pictures() -> dict[str, str]:
    """All of them but the recorded one, by file name."""
    obj = loaded(Engine(possible_cpus=4, seed=7))
    found = {"live-view.svg": live_view(obj, 80, 40)}
    histogram = str(obj.maps["latency_hist_ns"].log2_hist("ns").plot("Latency of openat()"))
    found["histogram.svg"] = histogram.replace(' fill="currentColor">', f"><style>{drawings.SCHEME}</style>")
    obj.close()
    found["logo.svg"] = drawings.logo()
    found["lru.svg"] = lru_plot()
    stacks = Stacks.from_folded((HERE / "busy.folded").read_text().splitlines())
    found["flame-graph.svg"] = drawings.flame_graph(stacks, "busy.py: Python by line, and the native code it calls")
    found["flame-graph.html"] = stacks.flame_graph("busy.py")
    return found


def words(picture: str) -> list[str]:
    """What a picture says; how it is drawn depends on the version of rich."""
    return re.findall(r">([^<>]+)</t(?:ext|span)>", picture)


def is_fresh(name: str, made: str) -> bool:
    """Whether the file says what it should."""
    path = IMAGES / name
    if not path.exists():
        return False
    text = path.read_text()
    return text == made if name in EXACT else words(text) == words(made)


def recorded_is_fresh(name: str) -> bool:
    """Whether a recorded terminal shows today's commands and files; what they answer is another each time."""
    _, typed, files, _ = TERMINALS[name]
    lines = re.findall(r"<text [^>]*>(.*)</text>", (IMAGES / name).read_text())
    said = [html.unescape(re.sub(r"<[^>]*>", "", line)) for line in lines]
    shown = [line for file in SHOWN[name] for line in files[file].splitlines() if line]
    return [line for line in said if line[:2] == "$ "] == [f"$ {line}" for line in typed] and set(shown) <= set(said)


def main() -> None:
    """Draw the pictures, or check them."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--check", action="store_true", help="compare them only")
    options.add_argument("--record", nargs="*", metavar="NAME", choices=[*TERMINALS, PAGE], help="all, or those named")
    chosen = options.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # bars are drawn as the terminal can
    made = pictures()
    IMAGES.mkdir(exist_ok=True)
    if chosen.check:
        stale = [name for name, text in made.items() if not is_fresh(name, text)]
        if stale:
            sys.exit(f"{', '.join(stale)} not up to date: run python tools/pictures.py")
        stale = [name for name in TERMINALS if not recorded_is_fresh(name)]
        stale += [] if (IMAGES / PAGE).exists() else [PAGE]
        if stale:
            sys.exit(f"{', '.join(stale)} not up to date: run python tools/pictures.py --record {' '.join(stale)}")
        return
    for name in [] if chosen.record is None else chosen.record or [*TERMINALS, PAGE]:
        if name == PAGE:
            (IMAGES / PAGE).write_bytes(page_picture())
        else:
            made[name] = record(name)
    for name, text in made.items():
        (IMAGES / name).write_text(text)


if __name__ == "__main__":
    main()
