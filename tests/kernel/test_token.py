"""BPF tokens: a process in a user namespace of its own loads what the mount of a BPF file system delegates to it."""

from __future__ import annotations

import array
import contextlib
import ctypes
import os
import socket
import struct
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bpf2py
from bpf2py.kernel.syscall import TOKEN_PATH, Fd
from bpf2py.kernel.token import open_token

pytestmark = pytest.mark.kernel
libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x00020000
# The same numbers on all CPUs (Linux 5.2).
FSOPEN, FSCONFIG, FSMOUNT = 430, 431, 432
FSCONFIG_SET_STRING, FSCONFIG_CMD_CREATE = 1, 6
SOURCE = """
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4); __type(key, __u32); __type(value, __u64); } counts SEC(".maps");
struct inner { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u32); };
struct {
    __uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
    __uint(max_entries, 4);
    __type(key, __u32);
    __array(values, struct inner);
} nested SEC(".maps");
int answer = 42;
SEC("socket") int filter(struct __sk_buff *skb) { __u32 key = 1; __u64 value = skb->len;
    bpf_map_update_elem(&counts, &key, &value, 0); return answer; }
"""


def call(number: int, *arguments: Any) -> int:
    result = libc.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), f"system call {number}")
    return int(result)


def send_fd(channel: socket.socket, fd: int) -> None:
    channel.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])


def receive_fd(channel: socket.socket) -> int:
    _, ancillary, _, _ = channel.recvmsg(1, socket.CMSG_SPACE(4))
    (number,) = struct.unpack("i", ancillary[0][2])
    return int(number)


def in_user_namespace(options: dict[str, str], body: Callable[[str], None]) -> None:
    """Run in a forked child that is root of a user namespace, with the path of a BPF file system that delegates `options`."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            ours.close()
            if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS):
                raise OSError(ctypes.get_errno(), "unshare")
            theirs.send(b"x")
            theirs.recv(1)  # now we are root here
            send_fd(theirs, call(FSOPEN, b"bpf", 0))
            body(f"/proc/self/fd/{receive_fd(theirs)}")
            status = 0
        except BaseException:
            theirs.send(traceback.format_exc().encode()[-8000:])
        finally:
            os._exit(status)
    theirs.close()
    with ours:
        ours.settimeout(60)
        ours.recv(1)
        Path(f"/proc/{child}/setgroups").write_text("deny")
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{child}/{name}").write_text("0 0 1")
        ours.send(b"x")
        context = Fd(receive_fd(ours))
        for name, value in options.items():
            call(FSCONFIG, context.number, FSCONFIG_SET_STRING, name.encode(), value.encode(), 0)
        call(FSCONFIG, context.number, FSCONFIG_CMD_CREATE, None, None, 0)
        mounted = Fd(call(FSMOUNT, context.number, 0, 0))
        send_fd(ours, mounted.number)
        mounted.close()
        context.close()
        failure = b""
        with contextlib.suppress(ConnectionError):
            failure = ours.recv(10000)
        _, status = os.waitpid(child, 0)
    assert status == 0, failure.decode()


ALL = dict.fromkeys(("delegate_cmds", "delegate_maps", "delegate_progs", "delegate_attachs"), "any")


@pytest.mark.since("6.9")
def test_a_token_lets_a_namespace_load(
    build: Callable[[str], bpf2py.ObjectSpec], assert_no_leaks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = build(SOURCE)

    def body(path: str) -> None:
        with pytest.raises(bpf2py.PermissionDenied, match="token_path="):
            bpf2py.load(spec)
        for way in ("argument", "environment"):
            monkeypatch.setenv(TOKEN_PATH, path if way == "environment" else "/nonexistent")
            with assert_no_leaks(), bpf2py.load(spec, token_path=None if way == "environment" else path) as obj:
                assert not obj.warnings
                assert obj.programs["filter"].test_run(data=bytes(60)).return_value == 42
                assert dict(obj.maps["counts"].items()) == {1: 60 - 14}
                assert obj.maps["counts"].info.btf_id > 0
                obj.variables["answer"].value = 7
                assert obj.programs["filter"].test_run(data=bytes(60)).return_value == 7

    in_user_namespace(ALL, body)


@pytest.mark.since("6.9")
def test_only_what_is_delegated(build: Callable[[str], bpf2py.ObjectSpec], assert_no_leaks: Any) -> None:
    spec = build(SOURCE)

    def no_programs(path: str) -> None:
        with assert_no_leaks(), pytest.raises(bpf2py.PermissionDenied, match="program filter: load"):
            bpf2py.load(spec, token_path=path)

    def nothing(path: str) -> None:
        with assert_no_leaks(), pytest.raises(bpf2py.BpfOSError, match="it delegates nothing"):
            bpf2py.load(spec, token_path=path)

    in_user_namespace({"delegate_cmds": "any", "delegate_maps": "any"}, no_programs)
    in_user_namespace({}, nothing)


def test_places_that_give_no_token(
    build: Callable[[str], bpf2py.ObjectSpec], bpffs: Path, assert_no_leaks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bpf2py.kernel.syscall import older_than

    spec = build(SOURCE)
    with assert_no_leaks():
        if older_than("6.9"):
            with pytest.raises(bpf2py.NotSupported, match=r"BPF tokens need Linux 6\.9") as caught:
                bpf2py.load(spec, token_path="/sys/fs/bpf")
            assert caught.value.since == "6.9"
            return
        with pytest.raises(bpf2py.BpfOSError, match="BPF token of /none: No such file"):
            bpf2py.load(spec, token_path="/none")
        with pytest.raises(bpf2py.BpfOSError, match="not the root of a BPF file system"):
            bpf2py.load(spec, token_path=bpffs)
        with pytest.raises(bpf2py.BpfOSError, match="tokens are for user namespaces"):
            bpf2py.load(spec, token_path="/sys/fs/bpf")
        monkeypatch.setenv(TOKEN_PATH, "/none")
        with pytest.raises(bpf2py.BpfOSError, match="BPF token of /none"):
            bpf2py.load(spec)
        with bpf2py.load(spec, token_path=""):
            assert open_token("") is None
