"""The page of ``top --web`` in a browser: its values are those bpftool says, by mouse, by keyboard, narrow and dark."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from tests.chromium import CHROMIUM, Page

import bpf2py
from bpf2py import Map, MapType
from bpf2py.kernel.cgroups import mount_point

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"
SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
struct web_seen { __u64 number; char text[56]; };
struct web_seen unused = {};
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 10); __type(key, __u32); __type(value, struct web_seen); }
    web_elements SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 16); __type(key, __u32); __type(value, __u64); }
    web_us_hist SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } web_ring SEC(".maps");
SEC("tcx/ingress") int web_first(struct __sk_buff *skb) { return -1; }
SEC("tcx/ingress") int web_second(struct __sk_buff *skb) { return 0; }
SEC("cgroup_skb/egress") int web_allow(struct __sk_buff *skb) { return 1; }
SEC("cgroup_skb/egress") int web_count(struct __sk_buff *skb) { return 1; }
SEC("xdp") int web_idle(struct xdp_md *ctx)
{
    __u32 key = 1;
    struct web_seen *found = bpf_map_lookup_elem(&web_elements, &key);
    struct web_seen *seen = bpf_ringbuf_reserve(&web_ring, sizeof(*seen), 0);

    if (!seen)
        return XDP_PASS;
    __builtin_memset(seen, 0, sizeof(*seen));
    if (found)
        __builtin_memcpy(seen, found, sizeof(*seen));
    bpf_ringbuf_submit(seen, 0);
    return bpf_map_lookup_elem(&web_us_hist, &key) ? XDP_PASS : XDP_DROP;
}
"""

pytestmark = [pytest.mark.kernel, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to show the page")]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bpf2py.Object]:
    path = tmp_path_factory.mktemp("web") / "web.bpf.c"
    path.write_text(SOURCE)
    with bpf2py.load(path, "kernel") as obj:
        obj.programs["web_first"].attach(device="lo")
        obj.programs["web_second"].attach(device="lo")
        for key in (1, 2, 3):
            obj.maps["web_elements"][key] = {"number": key * (1 << 60), "text": HOSTILE}
        for slot in (2, 3, 5):
            obj.maps["web_us_hist"][slot] = slot * 100
        yield obj


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    command = [sys.executable, "-m", "bpf2py", "top", "--web", "--interval", "0.2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, loaded: bpf2py.Object, address: str) -> Iterator[Page]:
    with Page(tmp_path_factory.mktemp("profile")) as page:
        page.open(address)
        page.until("document.querySelector('#state.live') !== null")
        yield page
        assert page.problems == []
        assert page.value("document.querySelectorAll('main img, main script').length") == 0


def bpftool(*arguments: str) -> Any:
    done = subprocess.run(["bpftool", "-j", *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def row(page: Page, name: str) -> dict[str, str]:
    """The cells of a listed object by their headings."""
    found: dict[str, str] = page.until(f"""(() => {{
        const row = [...document.querySelectorAll('#panel tbody tr')].find((row) => row.innerText.includes({json.dumps(name)}));
        const heads = [...document.querySelectorAll('#panel thead th')].map((head) => head.textContent);
        return row ? Object.fromEntries([...row.cells].map((cell, at) => [heads[at], cell.textContent])) : null;
    }})()""")
    return found


def open_row(page: Page, tab: str, name: str) -> None:
    page.press(tab)
    row(page, name)
    page.value(
        f"[...document.querySelectorAll('#panel button.row')].find((b) => b.textContent === {json.dumps(name)}).click()"
    )
    page.until(f"document.querySelector('#detail h2')?.textContent === {json.dumps(name)}")


def test_runs_are_those_bpftool_says(page: Page, loaded: bpf2py.Object) -> None:
    page.press("1")
    program = loaded.programs["web_idle"]
    before = int(row(page, "web_idle")["runs ever"].replace(",", ""))
    program.test_run(bytes(64), repeat=1234)
    page.until(
        f"[...document.querySelectorAll('#panel tbody tr')].some((row) => row.innerText.includes('{before + 1234:,}'))"
    )
    (known,) = [each for each in bpftool("prog", "list") if each["id"] == program.info.id]
    assert known["run_cnt"] == before + 1234
    assert row(page, "web_idle")["id"] == str(known["id"])


def test_elements_are_those_bpftool_says(page: Page, loaded: bpf2py.Object) -> None:
    open_row(page, "2", "web_elements")
    page.until("document.querySelectorAll('#detail tbody tr').length === 3")
    shown = page.value(
        "[...document.querySelectorAll('#detail .scroll tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    dumped = bpftool("map", "dump", "id", str(loaded.maps["web_elements"].info.id))
    expected = [[each["formatted"]["key"], each["formatted"]["value"]["number"]] for each in dumped]
    assert sorted([int(cells[0]), int(cells[1])] for cells in shown) == sorted(expected)
    # A name that is a page's markup is text.
    assert {cells[2] for cells in shown} == {HOSTILE}
    assert "30 %" in page.value("document.querySelector('#detail .facts').innerText")


def test_a_histogram(page: Page) -> None:
    open_row(page, "2", "web_us_hist")
    bars = page.until(
        "(() => { const rows = [...document.querySelectorAll('.hist tr')]; "
        "return rows.length ? rows.map((row) => [...row.cells].slice(0, 2).map((cell) => cell.textContent)) : null })()"
    )
    assert bars == [
        ["4 us -> 8 us", "200"],
        ["8 us -> 16 us", "300"],
        ["16 us -> 32 us", "0"],
        ["32 us -> 64 us", "500"],
    ]


def test_a_ring_is_read_along_and_stays_its_consumers(page: Page, loaded: bpf2py.Object) -> None:
    with bpf2py.RingReader(loaded.maps["web_ring"], type="struct web_seen") as reader:
        reader.poll(0)
        open_row(page, "2", "web_ring")
        page.until("document.querySelector('.events') !== null")
        loaded.programs["web_idle"].test_run(bytes(64), repeat=3)
        page.until("document.querySelectorAll('.events li:not(.idle)').length === 3")
        text = page.value("document.querySelector('.events li').textContent")
        assert text == f"struct web_seen number={1 << 60}, text={HOSTILE}"
        assert sum(len(batch) for batch in reader.batches(0.5)) == 3


def shown_at(page: Page, hook: str, place: str, last: str) -> list[int]:
    """The ids of the programs the page shows at a hook, once it shows one of a name."""
    hooks = (
        "[...document.querySelectorAll('.hook ol')].filter((list) => "
        f"list.ariaLabel === {json.dumps(f'programs of {place} {hook}, in their order')} && list.innerText.includes('{last}'))"
    )
    page.until(f"{hooks}.length === 1")
    return page.value(f"[...{hooks}[0].querySelectorAll('button')].map((b) => Number(b.dataset.id))")  # type: ignore[no-any-return]


def test_attached_programs_in_their_order(page: Page, loaded: bpf2py.Object) -> None:
    page.press("3")
    found = shown_at(page, "tcx/ingress", "lo", "web_second")
    first, second = (loaded.programs[name].info.id for name in ("web_first", "web_second"))
    assert [ident for ident in found if ident in (first, second)] == [first, second]
    root = mount_point()
    assert root is not None
    group = Path(root) / f"bpf2py_web_{os.getpid()}"
    group.mkdir()
    try:
        with (
            loaded.programs["web_allow"].attach(cgroup=str(group)),
            loaded.programs["web_count"].attach(cgroup=str(group)),
        ):
            listed = [each["id"] for each in bpftool("cgroup", "show", str(group))]
            assert shown_at(page, "cgroup_inet_egress", str(group), "web_count") == listed
            assert listed == [loaded.programs[name].info.id for name in ("web_allow", "web_count")]
    finally:
        group.rmdir()


def test_a_mark_shows_what_changed(page: Page, loaded: bpf2py.Object) -> None:
    open_row(page, "2", "web_elements")
    page.until("document.querySelectorAll('#detail tbody tr').length === 3")
    page.press("m")
    loaded.maps["web_elements"][7] = {"number": 1, "text": ""}
    loaded.maps["web_elements"][1] = {"number": (1 << 60) + 1024, "text": HOSTILE}
    page.until("[...document.querySelectorAll('#panel tr.open td.delta')].some((cell) => cell.textContent === '+1')")
    texts = "[...document.querySelectorAll('#detail td.delta')].map((cell) => cell.textContent).sort()"
    page.until(f'JSON.stringify({texts}) === \'["+1,024","0","0","new"]\'')
    del loaded.maps["web_elements"][7]
    page.press("m")
    assert page.value("document.querySelectorAll('td.delta').length") == 0


def test_by_keyboard(page: Page, loaded: bpf2py.Object) -> None:
    page.press("Escape")
    page.press("2")
    focused = "document.activeElement"
    assert page.value(f"{focused}.id") == "tab-maps"
    page.press("/")
    for letter in "web_el":
        page.press(letter)
    page.until("document.querySelectorAll('#panel tbody tr').length === 1")
    page.press("ArrowDown")
    assert page.value(f"{focused}.textContent") == "web_elements"
    assert page.value(f"getComputedStyle({focused}).outlineStyle") == "solid"
    page.press("Enter")
    page.until("document.querySelector('#detail h2')?.textContent === 'web_elements'")
    page.press("Escape")
    assert page.value("document.querySelector('#detail').hidden")
    assert page.value(f"{focused}.textContent") == "web_elements"
    page.press("?")
    assert page.value("document.querySelector('#help').open")
    page.press("Escape")
    page.until("!document.querySelector('#help').open")
    page.value(
        "document.querySelector('#filter').value = ''; document.querySelector('#filter').dispatchEvent(new Event('input'))"
    )
    # Everything that can be worked has a name.
    parts = "[...document.querySelectorAll('button, input, select')]"
    assert page.value(f"{parts}.filter((e) => !(e.textContent.trim() || e.ariaLabel)).length") == 0


@pytest.mark.parametrize("width", [375, 1440])
def test_it_fits_light_and_dark(page: Page, loaded: bpf2py.Object, width: int) -> None:
    pictures = set()
    for dark in (False, True):
        page.shape(width, 800, dark)
        for tab, name in (("1", "web_idle"), ("2", "web_elements"), ("2", "web_us_hist")):
            open_row(page, tab, name)
            assert page.value("document.documentElement.scrollWidth") == width - page.value(
                "innerWidth - document.documentElement.clientWidth"
            )
        page.press("Escape")
        page.press("3")
        pictures.add(page.value("getComputedStyle(document.body).backgroundColor"))
    assert len(pictures) == 2
    page.shape(1440, 900)


def test_a_map_that_goes(page: Page) -> None:
    with Map.create(MapType.HASH, key="u32", value="u32", max_entries=5, name="web_going") as going:
        going[1] = 2
        open_row(page, "2", "web_going")
        page.until("document.querySelectorAll('#detail .scroll tbody tr').length === 1")
    page.press("Escape")
    page.until("![...document.querySelectorAll('#panel tbody tr')].some((row) => row.innerText.includes('web_going'))")


def test_without_the_token_it_asks(tmp_path: Path, address: str) -> None:
    with Page(tmp_path) as page:
        page.open(address.partition("#")[0])
        page.until("document.querySelector('#ask').open")
        page.value(
            "document.querySelector('#ask-token').value = 'wrong'; document.querySelector('#ask-form').requestSubmit()"
        )
        page.until("document.querySelector('#ask-error').textContent === 'That is not the token.'")
        token = address.partition("#token=")[2]
        page.value(
            f"document.querySelector('#ask-token').value = '{token}'; document.querySelector('#ask-form').requestSubmit()"
        )
        page.until("document.querySelector('#state.live') !== null && !document.querySelector('#ask').open")
        assert page.value("location.href").endswith("/")


def test_what_is_vendored_is_what_was_published() -> None:
    """uPlot 1.6.32 as its npm package has it: dist/uPlot.iife.min.js, dist/uPlot.min.css, LICENSE."""
    known = {
        "uplot-1.6.32.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
        "uplot-1.6.32.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
        "uplot-LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
    }
    for name, digest in known.items():
        assert hashlib.sha256(files("bpf2py.export.web").joinpath(name).read_bytes()).hexdigest() == digest, name


def test_names_are_never_markup() -> None:
    script = files("bpf2py.export.web").joinpath("page.js").read_text()
    assert not [
        word for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(") if word in script
    ]
    assert "http:" not in script
    assert "https:" not in script
