"""The picture of ``bpf2py top --web``: a browser looks at a program of ours on the kernel. Needs root and Chromium."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from tests.chromium import CHROMIUM, Page

import bpf2py
from bpf2py.programs import Program

SIZE = (1280, 860)
QUALITY = 60  # of 100: text stays clean, in some 50 KB
# Of the kernel its series: the rest differs from machine to machine.
RELEASE = "$('about').textContent = $('about').textContent.replace(/(Linux [0-9]+[.][0-9]+)[^ ]*/, '$1')"
LOOKS = 12  # readings that are on the charts
SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct flow { __u32 saddr; __u16 port; __u8 proto; __u8 tos; };
struct traffic { __u64 packets, bytes; };

struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 2000); __type(key, struct flow); __type(value, struct traffic); }
    flows SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_HASH); __uint(max_entries, 512); __type(key, __u32); __type(value, __u64); }
    flows_by_port SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 256); __type(key, __u32); __type(value, __u64); }
    flows_denied SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 32); __type(key, __u32); __type(value, __u64); }
    flow_ns_hist SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 16); } flow_events SEC(".maps");

SEC("tc") int flow_count(struct __sk_buff *skb)
{
    __u32 random = bpf_get_prandom_u32(), port = random & 3 ? 443 : 1024 + (random >> 24), slot = 10 + (random >> 29);
    struct flow flow = {.saddr = 0x0a000000 + (random >> 8) % (random & 4 ? 100 : 6000), .port = port, .proto = 6};
    struct traffic first = {}, *found;
    __u64 one = 1, *count;

    bpf_map_update_elem(&flows, &flow, &first, BPF_NOEXIST);
    found = bpf_map_lookup_elem(&flows, &flow);
    if (found) {
        found->packets++;
        found->bytes += 60 + (random & 1023);
    }
    count = bpf_map_lookup_elem(&flow_ns_hist, &slot);
    if (count)
        *count += 1;
    count = bpf_map_lookup_elem(&flows_by_port, &port);
    if (count)
        *count += 1;
    else
        bpf_map_update_elem(&flows_by_port, &port, &one, BPF_ANY);
    if (random >> 24 == 0)
        bpf_ringbuf_output(&flow_events, &flow, sizeof(flow), 0);
    return 0;
}

SEC("tc") int flow_deny(struct __sk_buff *skb)
{
    __u32 source = bpf_get_prandom_u32() & 0xff;
    __u64 *count = bpf_map_lookup_elem(&flows_denied, &source);

    if (count)
        *count += 1;
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""


def _send(programs: list[Program], ended: threading.Event) -> None:
    """Packets for the programs, now more, now fewer."""
    rng = random.Random(7)
    while not ended.wait(0.05):
        for program in programs:
            program.test_run(bytes(64), repeat=rng.randrange(50, 400))


def page_picture() -> bytes:
    """The page with an LRU map opened, as WebP. Raises FileNotFoundError without Chromium, PermissionDenied without root."""
    if CHROMIUM is None:
        raise FileNotFoundError(2, "the page is shown by Chromium (Debian's package chromium)")
    spec = bpf2py.ObjectSpec.from_bytes(bpf2py.compile(SOURCE), "flows")
    # The host's name is on the page.
    command = ["unshare", "--uts", "sh", "-c", 'hostname gateway-1 && exec "$@"', "sh"]
    command += [sys.executable, "-m", "bpf2py", "top", "--web", "--interval", "1"]
    ended = threading.Event()
    with (
        tempfile.TemporaryDirectory() as profile,
        bpf2py.load(spec, "kernel") as obj,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as served,
    ):
        obj.maps["flows_denied"].update(dict.fromkeys(range(240), 0))
        sender = threading.Thread(target=_send, args=([obj.programs["flow_count"], obj.programs["flow_deny"]], ended))
        sender.start()
        try:
            assert served.stdout is not None
            address = served.stdout.readline().strip()
            with Page(Path(profile), *SIZE) as page:
                page.open(address)
                page.until("document.querySelector('#state.live') !== null")
                page.press("2")
                page.press("/")  # other programs' maps are left out
                for letter in "flow":
                    page.press(letter)
                opened = "[...document.querySelectorAll('#panel button.row')].find((b) => b.textContent === 'flows')"
                page.until(f"{opened} !== undefined && state.history.time.length > 2")
                page.value(f"{opened}.click()")
                page.until(f"state.evictions && state.evictions.data[0].length > {LOOKS}", 60)
                page.value("document.activeElement.blur()")
                page.value(RELEASE)
                return page.picture("webp", QUALITY)
        finally:
            ended.set()
            sender.join()
            served.send_signal(signal.SIGINT)
