"""Probes of functions and system calls on the engine: arguments where the headers' macros look for them, on either processor."""

from __future__ import annotations

import platform
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import bpf2py
from bpf2py.engine import Engine
from bpf2py.errors import EncodeError

SOURCE = """
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

long arguments[6], result, descriptor, how, mode, ip;
char name[16];

SEC("ksyscall/openat")
int BPF_KSYSCALL(opens, int dfd, const char *path, int flags, unsigned int bits)
{
    descriptor = dfd;
    how = flags;
    mode = bits;
    bpf_probe_read_user_str(name, sizeof(name), path);
    return 0;
}

SEC("kretsyscall/openat")
int BPF_KRETPROBE(opened, long fd)
{
    result = fd;
    return 0;
}

SEC("kprobe/do_thing")
int BPF_KPROBE(enters, long a, long b, long c, long d, long e)
{
    long given[] = {a, b, c, d, e, PT_REGS_PARM6(ctx)};

    __builtin_memcpy(arguments, given, sizeof(given));
    ip = PT_REGS_IP(ctx);
    return 0;
}

SEC("uretprobe//bin/thing:function")
int BPF_URETPROBE(leaves, long value)
{
    result = value;
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.fixture(scope="module", params=["x86", "arm64"])
def obj(request: pytest.FixtureRequest) -> Iterator[Any]:
    data = bpf2py.compile(SOURCE, arch=request.param)
    with bpf2py.load(data, backend=Engine()) as loaded:
        loaded.attach()
        yield loaded


def test_system_calls(obj: Any) -> None:
    obj.backend.fire("ksyscall/openat", -100, "/etc/passwd", 0o100, 0o644)
    values = {name: obj.variables[name].value for name in ("descriptor", "how", "mode", "name")}
    assert values == {"descriptor": -100, "how": 0o100, "mode": 0o644, "name": "/etc/passwd"}
    obj.backend.fire("kretsyscall/openat", -13)
    assert obj.variables["result"].value == -13


def test_functions(obj: Any) -> None:
    assert obj.backend.fire("kprobe/do_thing", 1, 2, 3, 4, -5, 6) == [0]
    assert list(obj.variables["arguments"].value) == [1, 2, 3, 4, -5, 6]
    obj.backend.fire("uretprobe//bin/thing:function", 99)
    assert obj.variables["result"].value == 99


def test_registers_by_name(obj: Any) -> None:
    probe, on_arm = obj.programs["enters"], "user_pt_regs" in {t.name for _, t in obj.spec.types.types()}
    probe.run(**({"pc": 7, "x1": 8} if on_arm else {"ip": 7, "si": 8}))
    assert (obj.variables["ip"].value, obj.variables["arguments"].value[1]) == (7, 8)
    with pytest.raises(EncodeError, match="struct pt_regs has no register 'nothing'"):
        probe.run(nothing=1)
    with pytest.raises(EncodeError, match=f"at most {8 if on_arm else 6} arguments are in registers"):
        probe.run(*range(9))


USDT = """
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/usdt.bpf.h>

long first, second, count, size, cookie;
char text[8];

SEC("usdt//bin/thing:provider:probe")
int BPF_USDT(fires, long a, const char *b, long c)
{
    first = a;
    bpf_probe_read_user_str(text, sizeof(text), b);
    second = c;
    count = bpf_usdt_arg_cnt(ctx);
    size = bpf_usdt_arg_size(ctx, 0);
    cookie = bpf_usdt_cookie(ctx);
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.mark.parametrize("translator", ["native", "python"])
def test_user_space_tracepoints(translator: str) -> None:
    engine = Engine(translator=translator)
    with bpf2py.load(bpf2py.compile(USDT), backend=engine) as obj:
        link = obj.programs["fires"].attach(cookie=(1 << 64) - 7)
        assert engine.fire(link.hook, -44, "hello", 1 << 40) == [0]
        values = {name: obj.variables[name].value for name in ("first", "text", "second", "count", "size", "cookie")}
        assert values == {"first": -44, "text": "hello", "second": 1 << 40, "count": 3, "size": 8, "cookie": -7}
        obj.programs["fires"].run(1)
        assert (obj.variables["first"].value, obj.variables["count"].value) == (1, 1)
        with pytest.raises(EncodeError, match="at most 12 arguments"):
            obj.programs["fires"].run(*range(13))


KERNEL_STRUCTS = """
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
struct inner { int number; } __attribute__((preserve_access_index));
struct outer { struct inner *inner; char name[8]; } __attribute__((preserve_access_index));
int number;
char name[8];
SEC("kprobe/fn") int BPF_KPROBE(typed, struct outer *outer)
{
	number = BPF_CORE_READ(outer, inner, number);
	bpf_probe_read_kernel_str(name, sizeof(name), &outer->name);
	return 0;
}
SEC("kprobe/other") int plain(struct pt_regs *ctx)
{
	struct outer *outer = (void *)PT_REGS_PARM1(ctx);

	number = BPF_CORE_READ(outer, inner, number);
	bpf_probe_read_kernel_str(name, sizeof(name), &outer->name);
	return 0;
}
SEC("socket") int filter(struct __sk_buff *skb) { return 7; }
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.fixture
def structs(compile_bpf: Callable[[str], bytes]) -> Iterator[Any]:
    with bpf2py.load(compile_bpf(KERNEL_STRUCTS), backend=Engine()) as obj:
        yield obj


def test_structs_as_arguments_of_probes(structs: Any) -> None:
    """As of fentry programs: laid out as the program's own types say."""
    engine, links = structs.backend, [structs.programs[name].attach() for name in ("typed", "plain")]
    named = {"__type__": "outer", "inner": {"number": 6}, "name": "de"}
    for hook in ("kprobe/fn", "kprobe/other"):
        structs.variables["number"].value = 0
        engine.fire(hook, named)
        assert (structs.variables["number"].value, structs.variables["name"].value) == (6, "de")
    first = "di" if platform.machine() == "x86_64" else "x0"
    engine.fire("kprobe/other", **{first: named})
    assert len(links) == 2


@pytest.mark.parametrize(
    "argument", [{"inner": None}, 1.5, object(), {"__type__": "nothing"}, {"__type__": "outer", "x": 1}]
)
def test_arguments_that_are_nothing(structs: Any, argument: object) -> None:
    link = structs.programs["plain"].attach()
    with pytest.raises(bpf2py.errors.EncodeError):
        structs.backend.fire("kprobe/other", argument)
    with pytest.raises(bpf2py.errors.EncodeError):
        structs.backend.fire("kprobe/other", di=argument)
    link.close()


def test_filters_are_attached_to_sockets(structs: Any) -> None:
    """By the option the kernel has; an event for them goes to any socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        link = structs.programs["filter"].attach(socket=sock)
        assert structs.backend.fire("socket/any", data=bytes(14)) == [7]
        link.close()


@pytest.mark.parametrize("where", ["engine", pytest.param("kernel", marks=pytest.mark.kernel)])
@pytest.mark.parametrize("kind", ["DEVMAP", "DEVMAP_HASH"])
def test_flags_of_device_maps(where: str, kind: str) -> None:
    """Programs may not write to them, which these maps' flags say."""
    backend = Engine() if where == "engine" else "kernel"
    with bpf2py.Map.create(kind, key="u32", value="u32", max_entries=2, backend=backend) as made:
        assert made.info.flags == 0x80
