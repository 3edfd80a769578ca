"""Draw the pictures of the documentation: the live view of `bpf2py run`, and a histogram; ``--check`` only compares them.

They come from programs that run on the engine, so they are the same everywhere.
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Any

import bpf2py
from bpf2py.engine import Engine, Task

IMAGES = Path(__file__).parent.parent / "docs" / "images"
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
    return console.export_svg(title="bpf2py run opens.bpf.c", unique_id=f"live{width}")


def pictures() -> dict[str, str]:
    """All of them, by file name."""
    obj = loaded(Engine(possible_cpus=4, seed=7))
    found = {"live-view.svg": live_view(obj, 80, 40)}
    found["histogram.svg"] = str(obj.maps["latency_hist_ns"].log2_hist("ns").plot("Latency of openat()"))
    obj.close()
    return found


def words(svg: str) -> list[str]:
    """What a picture says; how it is drawn depends on the version of rich."""
    return re.findall(r">([^<>]+)</text>", svg)


def main() -> None:
    """Draw the pictures, or check them."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # bars are drawn as the terminal can
    made = pictures()
    IMAGES.mkdir(exist_ok=True)
    for name, text in made.items():
        path = IMAGES / name
        if "--check" not in sys.argv[1:]:
            path.write_text(text + "\n")
        elif not path.exists() or words(path.read_text()) != words(text):
            sys.exit(f"{name} is not up to date: run python tools/pictures.py")


if __name__ == "__main__":
    main()
