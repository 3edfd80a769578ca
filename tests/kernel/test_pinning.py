from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bpf2py
from bpf2py import Map, MapFlags, MapType
from bpf2py.spec.layout import Layout
from bpf2py.spec.map_spec import MapSpec, Pinning

pytestmark = pytest.mark.kernel

SOURCE = """
struct my_stats { __u64 packets; __u32 bytes; };
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 10);
    __uint(pinning, LIBBPF_PIN_BY_NAME);
    __type(key, char[8]);
    __type(value, struct my_stats);
} shared SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
    __uint(pinning, LIBBPF_PIN_BY_NAME);
    __type(key, __u32);
    __type(value, __u32);
} events SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u32); }
    private SEC(".maps");
SEC("syscall")
int use(void *ctx)
{
    char key[8] = "program";
    struct my_stats stats = { 1, 2 };
    return bpf_map_update_elem(&shared, key, &stats, BPF_ANY);
}
"""


@pytest.fixture
def made() -> Iterator[Any]:
    with Map.create("HASH", key="u32", value="u64", max_entries=5, name="counts") as found:
        yield found


def test_a_pinned_map_outlives_its_owner(made: Any, bpffs: Path, refused: Callable[..., Any]) -> None:
    path = bpffs / "counts"
    made[1] = 5
    made.pin(path)
    ident = made.id
    made.close()
    with Map.from_pin(path, key="u32", value="u64") as opened:
        assert (opened.id, opened.name, opened[1], opened.type) == (ident, "counts", 5, MapType.HASH)
    with Map.from_pin(str(path)) as raw:
        assert raw.snapshot() == {b"\1\0\0\0": (5).to_bytes(8, "little")}
    path.unlink()
    with refused(bpf2py.BpfOSError, errno.ENOENT, f"pinned map {path}: open: "):
        Map.from_pin(path)
    with pytest.raises(bpf2py.BpfOSError):
        Map.from_id(ident)


def test_a_path_that_cannot_be(made: Any, bpffs: Path, tmp_path: Path, refused: Callable[..., Any]) -> None:
    made.pin(bpffs / "counts")
    with pytest.raises(FileExistsError, match=r"map counts: pin: .*/counts exists"):
        made.pin(bpffs / "counts")
    with refused(bpf2py.BpfOSError, errno.EPERM, "map counts: pin: the place must be on a BPF file system"):
        made.pin(tmp_path / "counts")
    with refused(bpf2py.BpfOSError, errno.ENOENT, "map counts: pin: the directory does not exist"):
        made.pin(bpffs / "none" / "counts")
    with refused(bpf2py.BpfOSError, errno.ENOENT, f"pinned map {bpffs}/none: open: "):
        Map.from_pin(bpffs / "none")
    with pytest.raises(bpf2py.BpfOSError, match="open"):
        Map.from_pin(tmp_path)


def test_types_that_do_not_fit(made: Any, bpffs: Path, assert_no_leaks: Callable[[], Any]) -> None:
    made.pin(bpffs / "counts")
    with assert_no_leaks(), pytest.raises(bpf2py.EncodeError, match="the key type u16 has 2 bytes, the map's 4"):
        Map.from_pin(bpffs / "counts", key="u16", value="u64")


def test_something_else_is_pinned_there(build: Callable[[str], bpf2py.ObjectSpec], bpffs: Path) -> None:
    with bpf2py.load(build(SOURCE), pin_path=str(bpffs)) as obj:
        obj.programs["use"].pin(bpffs / "program")
        with pytest.raises(bpf2py.BpfOSError, match=r"map fd .*: this is not a BPF map but a program"):
            Map.from_fd(obj.programs["use"].fileno())
        with (
            pytest.raises(bpf2py.BpfOSError, match=r"map fd .*: this is not a BPF map but .*null"),
            open("/dev/null") as file,
        ):
            Map.from_fd(file.fileno())


ITERATOR = """#include "vmlinux.h"
SEC("iter/bpf_map") int dump(struct bpf_iter__bpf_map *ctx) { return 0; }
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u32); } one SEC(".maps");
"""


@pytest.mark.parametrize("pinned", ["map", "program", "link"])
def test_each_kind_of_pin_opens_as_what_it_is(
    build: Callable[[str], bpf2py.ObjectSpec], bpffs: Path, pinned: str, assert_no_leaks: Callable[[], Any]
) -> None:
    opens: dict[str, Callable[..., Any]] = {
        "map": Map.from_pin,
        "program": bpf2py.Program.from_pin,
        "link": bpf2py.Link.from_pin,
    }
    with bpf2py.load(build(ITERATOR)) as obj:
        made: dict[str, Any] = {
            "map": obj.maps["one"],
            "program": obj.programs["dump"],
            "link": obj.programs["dump"].attach(),
        }
        made[pinned].pin(bpffs / "it")
        with assert_no_leaks():
            for kind, function in opens.items():
                if kind == pinned:
                    function(bpffs / "it").close()
                    continue
                with pytest.raises(bpf2py.BpfOSError, match=f"open: this is not a BPF {kind} but a {pinned}") as caught:
                    function(bpffs / "it")
                assert caught.value.errno == errno.EINVAL
        made["link"].close()


@pytest.mark.parametrize("name", ["../victim", "/victim", "a/b", ".", "..", "", "a\0b"])
def test_a_map_name_is_one_file_in_the_directory(
    build: Callable[[str], bpf2py.ObjectSpec], bpffs: Path, name: str, assert_no_leaks: Callable[[], Any]
) -> None:
    spec = build(SOURCE)
    (bpffs / "pins").mkdir()
    spec.maps["shared"].name = name.replace("/victim", f"{bpffs}/victim") if name.startswith("/") else name
    with assert_no_leaks(), pytest.raises(bpf2py.MapCreateError, match="pinned by name needs a name"):
        bpf2py.load(spec, pin_path=str(bpffs / "pins"))
    assert [path.name for path in bpffs.iterdir()] == ["pins"]


def test_a_nul_does_not_cut_a_path_short(made: Any, build: Callable[[str], bpf2py.ObjectSpec], bpffs: Path) -> None:
    path = f"{bpffs}/counts\0more"
    with bpf2py.load(build(ITERATOR)) as obj, obj.programs["dump"].attach() as link:
        for call in (
            made.pin, made.unpin, obj.programs["dump"].pin, obj.programs["dump"].unpin, link.pin, link.unpin,
            Map.from_pin, bpf2py.Program.from_pin, bpf2py.Link.from_pin,
        ):  # fmt: skip
            with pytest.raises(bpf2py.BpfOSError, match="contains a NUL character"):
                call(path)
        made.pin(os.fsencode(bpffs / "counts"))
        with pytest.raises(bpf2py.BpfOSError, match="contains a NUL character"):
            bpf2py.load(build(SOURCE), pin_path=path)
    assert [path.name for path in bpffs.iterdir()] == ["counts"]


@pytest.mark.parametrize("ident", [-1, 1 << 32, 1 << 80])
def test_ids_no_object_can_have(ident: int) -> None:
    for function in (Map.from_id, bpf2py.Program.from_id, bpf2py.Link.from_id):
        with pytest.raises(bpf2py.EncodeError, match=f"id {ident}: ids are unsigned 32-bit numbers"):
            function(ident)


@pytest.mark.parametrize("descriptor", [-1, 1 << 20, 1 << 40, 1 << 80])
def test_descriptors_nobody_has(descriptor: int) -> None:
    with pytest.raises(bpf2py.BpfOSError) as caught:
        Map.from_fd(descriptor)
    assert caught.value.errno == errno.EBADF


def test_pinned_by_name(build: Callable[[str], bpf2py.ObjectSpec], bpffs: Path, assert_no_leaks: Any) -> None:
    spec = build(SOURCE)
    with assert_no_leaks():
        with bpf2py.load(spec, pin_path=str(bpffs)) as first:
            assert sorted(os.listdir(bpffs)) == ["events", "shared"]
            first.maps["shared"]["first"] = {"packets": 7}
            first.maps["private"][0] = 9
            ident = first.maps["shared"].id
        with bpf2py.load(spec, pin_path=str(bpffs)) as second:
            assert second.maps["shared"].id == ident
            second.programs["use"].test_run()
            assert {key: value.packets for key, value in second.maps["shared"].items()} == {"first": 7, "program": 1}
            assert second.maps["private"][0] == 0
            with bpf2py.load(spec, pin_path=str(bpffs)) as third:
                assert third.maps["shared"]["program"].bytes == 2
    with Map.from_pin(bpffs / "shared") as opened:  # typed by its BTF
        assert opened["program"].bytes == 2


def test_every_difference_is_named(
    build: Callable[[str], bpf2py.ObjectSpec], bpffs: Path, assert_no_leaks: Any
) -> None:
    spec = build(SOURCE)
    with bpf2py.load(spec, pin_path=str(bpffs)):
        pass
    changed = spec.copy()
    shared = changed.maps["shared"]
    shared.type = MapType.LRU_HASH
    shared.max_entries, shared.key_size, shared.value_size = 20, 16, 24
    shared.flags = MapFlags.NO_COMMON_LRU
    shared.map_extra = 3
    with assert_no_leaks(), pytest.raises(bpf2py.MapIncompatible) as caught:
        bpf2py.load(changed, pin_path=str(bpffs))
    assert str(caught.value) == (
        f"map shared: the map pinned at {bpffs}/shared does not fit: type is HASH, wanted LRU_HASH; "
        "key_size is 8, wanted 16; value_size is 16, wanted 24; max_entries is 10, wanted 20; "
        "flags is 0x0, wanted 0x2; map_extra is 0, wanted 3"
    )


def test_a_map_given_in_place_of_the_objects_own(build: Callable[[str], bpf2py.ObjectSpec], bpffs: Path) -> None:
    spec = build(SOURCE)
    with (
        Map.create("HASH", 8, 16, 10) as fits,
        Map.create("HASH", 8, 16, 11) as differs,
        bpf2py.load(spec, pin_path=str(bpffs), maps={"shared": fits}) as obj,
    ):
        obj.programs["use"].test_run()
        assert obj.maps["shared"]["program"].packets == 1
        assert fits.count() == 1
        with pytest.raises(bpf2py.MapIncompatible, match="max_entries is 11, wanted 10"):
            bpf2py.load(spec, pin_path=str(bpffs), maps={"shared": differs})
        with pytest.raises(bpf2py.MapIncompatible, match=r"map share: the object has no such map: .*shared"):
            bpf2py.load(spec, pin_path=str(bpffs), maps={"share": fits})
    assert os.listdir(bpffs) == ["events"]


def test_where_nothing_can_be_pinned(
    build: Callable[[str], bpf2py.ObjectSpec], tmp_path: Path, assert_no_leaks: Any
) -> None:
    spec = build(SOURCE)
    with assert_no_leaks(), pytest.raises(bpf2py.BpfOSError, match="map shared: pin: the place must be on a BPF file"):
        bpf2py.load(spec, pin_path=str(tmp_path))


def test_read_only_opening_of_flags(bpffs: Path, build: Callable[[str], bpf2py.ObjectSpec]) -> None:
    """The descriptor's own read-only bit is not a difference."""
    spec = build(SOURCE)
    with bpf2py.load(spec, pin_path=str(bpffs)):
        pass
    again = spec.copy()
    again.maps["shared"].flags |= MapFlags.RDONLY
    with bpf2py.load(again, pin_path=str(bpffs)) as obj:
        assert obj.maps["shared"].count() == 0


def test_unpin_removes_only_a_pin_of_this_map(bpffs: Path) -> None:
    with (
        Map.create("HASH", key="u32", value="u32", max_entries=1) as one,
        Map.create("QUEUE", value="u32", max_entries=1) as other,
    ):
        one.pin(bpffs / "one")
        with pytest.raises(bpf2py.MapIncompatible, match="not this one"):
            other.unpin(bpffs / "one")
        one.unpin(bpffs / "one")
        with pytest.raises(FileNotFoundError):
            one.unpin(bpffs / "one")


def test_unpin_of_programs_and_links(compile_object: Callable[[str], bytes], bpffs: Path) -> None:
    source = """
SEC("raw_tp/sys_enter") int one(void *ctx) { return 0; }
SEC("raw_tp/sys_enter") int other(void *ctx) { return 1; }
"""
    with bpf2py.load(compile_object(source)) as obj:
        one, other = obj.programs["one"], obj.programs["other"]
        with one.attach() as link, other.attach() as another:
            for mine, theirs, path in ((one, other, bpffs / "program"), (link, another, bpffs / "link")):
                mine.pin(path)
                with pytest.raises(bpf2py.BpfError, match="not this one"):
                    theirs.unpin(path)
                mine.unpin(path)
                assert not path.exists()
                with pytest.raises(FileNotFoundError, match="nothing is pinned"):
                    mine.unpin(path)


def test_what_is_no_pin(tmp_path: Path, bpffs: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, words, number in (
        (bpffs / "nothing", "nothing is pinned there", errno.ENOENT),
        (tmp_path / "file", "it is not on a BPF file system", errno.EACCES),
    ):
        for opener in (Map.from_pin, bpf2py.Program.from_pin, bpf2py.Link.from_pin):
            with pytest.raises(bpf2py.BpfOSError, match=words) as caught:
                opener(path)
            assert (caught.value.errno, caught.value.command) == (number, "BPF_OBJ_GET")


EVERY_TYPE = [
    ("HASH", 8, 8, 5, 0), ("ARRAY", 4, 8, 5, 0), ("PROG_ARRAY", 4, 4, 5, 0), ("PERF_EVENT_ARRAY", 4, 4, 5, 0),
    ("PERCPU_HASH", 8, 8, 5, 0), ("PERCPU_ARRAY", 4, 8, 5, 0), ("STACK_TRACE", 4, 8, 5, 0), ("CGROUP_ARRAY", 4, 4, 5, 0),
    ("LRU_HASH", 8, 8, 5, 0), ("LRU_HASH", 8, 8, 5, MapFlags.NO_COMMON_LRU), ("LRU_PERCPU_HASH", 8, 8, 5, 0),
    ("LRU_PERCPU_HASH", 8, 8, 7, MapFlags.NO_COMMON_LRU), ("LPM_TRIE", 8, 8, 5, MapFlags.NO_PREALLOC), ("DEVMAP", 4, 4, 5, 0),
    ("DEVMAP", 4, 8, 5, 0), ("SOCKMAP", 4, 4, 5, 0), ("CPUMAP", 4, 4, 1, 0), ("XSKMAP", 4, 4, 5, 0), ("SOCKHASH", 4, 4, 5, 0),
    ("REUSEPORT_SOCKARRAY", 4, 4, 5, 0), ("QUEUE", 0, 4, 5, 0), ("STACK", 0, 4, 5, 0), ("DEVMAP_HASH", 4, 4, 5, 0),
    ("DEVMAP_HASH", 4, 8, 5, 0), ("RINGBUF", 0, 0, 1000, 0), ("BLOOM_FILTER", 0, 4, 5, 0), ("USER_RINGBUF", 0, 0, 5000, 0),
    ("HASH", 8, 8, 5, MapFlags.RDONLY_PROG), ("ARRAY", 4, 8, 5, MapFlags.MMAPABLE | MapFlags.WRONLY_PROG),
    ("HASH", 8, 8, 5, MapFlags.NO_PREALLOC | MapFlags.ZERO_SEED),
]  # fmt: skip


@pytest.mark.parametrize("backend", ["kernel", "engine"])
@pytest.mark.parametrize(("kind", "key", "value", "entries", "flags"), EVERY_TYPE)
def test_a_map_of_every_type_is_shared(
    kind: str, key: int, value: int, entries: int, flags: int, backend: str, bpffs: Path
) -> None:
    def spec() -> bpf2py.ObjectSpec:
        made = bpf2py.ObjectSpec()
        for what in ("maps", "programs", "variables", "externs", "functions"):
            setattr(made, what, {})
        made.name, made.license, made.kernel_version, made.types, made.layout = "made", "GPL", 0, None, Layout({}, {})
        made.maps["m"] = MapSpec("m", MapType[kind], key, value, entries, flags, pinning=pinning)
        return made

    pinning = Pinning.NONE
    try:
        first = bpf2py.load(spec(), backend)
    except bpf2py.NotSupported:
        assert backend == "engine"
        return
    with first, bpf2py.load(spec(), backend, maps={"m": first.maps["m"]}) as second:
        assert second.maps["m"].id == first.maps["m"].id
    if backend == "kernel":
        pinning = Pinning.BY_NAME
        with bpf2py.load(spec(), pin_path=str(bpffs)) as first, bpf2py.load(spec(), pin_path=str(bpffs)) as second:
            assert second.maps["m"].id == first.maps["m"].id


READER = """
import ctypes, os, sys, tempfile
import bpf2py
# The other user may not be able to read the modules: all that is needed is imported before.
import bpf2py.kernel.environment, bpf2py.kernel.features, bpf2py.maps.errors
libc = ctypes.CDLL(None, use_errno=True)
place = tempfile.mkdtemp(dir="/tmp")
# A mount of its own: that of the machine may be closed to others.
assert libc.unshare(0x20000) == 0 and libc.mount(b"none", b"/", None, 1 << 14 | 1 << 18, None) == 0
assert libc.mount(b"bpf", place.encode(), b"bpf", 0, b"mode=0755") == 0
path = f"{place}/counts"
with bpf2py.Map.from_id(int(sys.argv[1]), key="u32", value="u64") as found:
    dict(found.items()), len(found), found[7]
    found.pin(path)
os.chmod(path, 0o444)
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
try:
    bpf2py.Map.from_pin(path)
except bpf2py.PermissionDenied as error:
    assert "Map.from_pin(path, read_only=True)" in str(error), error
else:
    raise SystemExit("opened for writing")
with bpf2py.Map.from_pin(path, key="u32", value="u64", read_only=True) as found:
    print(found[7], dict(found.items()), len(found), place)
    for change in (lambda: found.__setitem__(1, 2), lambda: found.__delitem__(7), found.clear):
        try:
            change()
        except bpf2py.PermissionDenied:
            continue
        raise SystemExit("written to")
"""


def test_a_pin_that_others_may_read(made: Any) -> None:
    made[7] = 5
    command = [sys.executable, "-c", READER, str(made.id)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ":".join(sys.path)})
    assert done.returncode == 0, done.stderr
    shown, place = done.stdout.rstrip("\n").rsplit(" ", 1)
    os.rmdir(place)
    assert shown == "5 {7: 5} 1"
    assert dict(made.items()) == {7: 5}


def test_a_read_only_map_is_read(made: Any, bpffs: Path) -> None:
    made[7] = 5
    made.pin(bpffs / "counts")
    types = {"key": "u32", "value": "u64"}
    with (
        Map.from_pin(bpffs / "counts", read_only=True, **types) as by_path,
        Map.from_id(made.id, read_only=True, **types) as by_id,
    ):
        for found in (by_path, by_id):
            assert dict(found.items()) == {7: 5}
            with pytest.raises(bpf2py.PermissionDenied):
                found[1] = 2
            with pytest.raises(bpf2py.PermissionDenied):
                found.update({1: 2, 3: 4})
            with pytest.raises(bpf2py.PermissionDenied):
                del found[7]
    assert dict(made.items()) == {7: 5}


def test_a_failed_load_leaves_no_pins_of_its_own(
    build: Callable[[str], bpf2py.ObjectSpec], bpffs: Path, assert_no_leaks: Callable[[], Any]
) -> None:
    wrong = build(SOURCE + 'SEC("syscall") int wrong(void *ctx) { return *(int *)0; }\n')
    with assert_no_leaks(), pytest.raises(bpf2py.VerifierError):
        bpf2py.load(wrong, pin_path=str(bpffs))
    assert list(bpffs.iterdir()) == []
    with bpf2py.load(build(SOURCE), pin_path=str(bpffs)) as first:
        (bpffs / "events").unlink()
        with pytest.raises(bpf2py.VerifierError):
            bpf2py.load(wrong, pin_path=str(bpffs))
        assert [path.name for path in bpffs.iterdir()] == ["shared"]  # another object's
        with Map.from_pin(bpffs / "shared") as found:
            assert found.id == first.maps["shared"].id
    spec = build(SOURCE)
    spec.maps["events"].max_entries = 1 << 31
    with pytest.raises(bpf2py.BpfError):
        bpf2py.load(spec, pin_path=str(bpffs / "none"))
    assert [path.name for path in bpffs.iterdir()] == ["shared"]
