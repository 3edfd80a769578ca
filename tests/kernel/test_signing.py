"""Signed programs (Linux 6.18)."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bpf2py
from bpf2py.engine import Engine
from bpf2py.kernel.syscall import older_than
from bpf2py.signing import Keyring, Signing, openssl_signer

ADD_KEY = {"x86_64": 248, "aarch64": 217}[platform.machine()]
SOURCE = """
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 2); __type(key, __u32); __type(value, __u64); } first SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 2); __type(key, __u32); __type(value, __u64); } second SEC(".maps");
int calls;
SEC("xdp") int counted(struct xdp_md *ctx)
{
    __u32 key = 1;
    __u64 *a = bpf_map_lookup_elem(&first, &key), *b = bpf_map_lookup_elem(&second, &key);
    calls += 2;
    if (a)
        *a += 1;
    if (b)
        *b += 10;
    return 2;
}
"""
CHECKS = not older_than("6.18") and " verify_pkcs7_signature\n" in Path("/proc/kallsyms").read_text()


class Keys:
    """A key, its certificate, and a keyring of this process that has it."""

    def __init__(self, place: Path, name: str) -> None:
        self.key, self.certificate = place / f"{name}.key", place / f"{name}.pem"
        make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -sha256 -batch".split()
        subprocess.run(
            [*make, "-subj", f"/CN={name}", "-keyout", self.key, "-out", self.certificate],
            check=True,
            capture_output=True,
        )

    def ring(self) -> int:
        ring = add_key("keyring", "bpf2py test", b"", int(Keyring.PROCESS))
        turn = ["openssl", "x509", "-in", str(self.certificate), "-outform", "DER"]
        add_key("asymmetric", "mine", subprocess.run(turn, check=True, capture_output=True).stdout, ring)
        return ring

    @property
    def sign(self) -> Any:
        return openssl_signer(self.key, self.certificate)


def add_key(kind: str, description: str, payload: bytes, ring: int) -> int:
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    serial = syscall(
        ADD_KEY, kind.encode(), description.encode(), payload or None, ctypes.c_size_t(len(payload)), ctypes.c_int(ring)
    )
    if serial < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), kind)
    return int(serial)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"), "signer")


@pytest.fixture
def spec(build: Callable[[str], bpf2py.ObjectSpec]) -> bpf2py.ObjectSpec:
    return build(SOURCE)


@pytest.mark.kernel
@pytest.mark.skipif(not CHECKS, reason="this kernel checks no signatures")
def test_what_is_signed_loads_and_runs(spec: bpf2py.ObjectSpec, keys: Keys) -> None:
    with bpf2py.load(spec, signing=Signing(keys.sign, keys.ring())) as obj:
        obj.maps["second"][1] = 5
        obj.programs["counted"].test_run(bytes(64), repeat=3)
        assert (obj.maps["first"][1], obj.maps["second"][1], obj.variables["calls"].value) == (3, 35, 6)


@pytest.mark.kernel
@pytest.mark.skipif(not CHECKS, reason="this kernel checks no signatures")
def test_a_signature_made_before_is_good_for_other_descriptors(spec: bpf2py.ObjectSpec, keys: Keys) -> None:
    """The instructions do not depend on the descriptors of maps, so signatures may be kept by their hash."""
    kept: dict[bytes, bytes] = {}

    def first(name: str, code: bytes) -> bytes:
        kept[hashlib.sha256(code).digest()] = keys.sign(name, code)
        return kept[hashlib.sha256(code).digest()]

    def later(name: str, code: bytes) -> bytes:
        return kept[hashlib.sha256(code).digest()]

    ring = keys.ring()
    with bpf2py.load(spec, signing=Signing(first, ring)), bpf2py.load(spec, signing=Signing(later, ring)):
        assert len(kept) == 1
    with bpf2py.load(spec, signing=Signing(first, ring), exclusive={"first": "counted"}) as obj:
        assert obj.programs["counted"].digest[:8] == obj.programs["counted"].info.tag


@pytest.mark.kernel
@pytest.mark.skipif(not CHECKS, reason="this kernel checks no signatures")
def test_what_is_wrong_is_said(
    spec: bpf2py.ObjectSpec, keys: Keys, tmp_path: Path, refused: Callable[..., Any]
) -> None:
    ring = keys.ring()
    cases = [
        (lambda name, code: keys.sign(name, code + code), ring, errno.EKEYREJECTED, "the signature was rejected"),
        (
            Keys(tmp_path, "other").sign,
            ring,
            errno.ENOKEY,
            f"keyring {ring} has no key that its signature was made with",
        ),
        (keys.sign, int(Keyring.BUILTIN), errno.ENOKEY, "the BUILTIN keyring has no key"),
        (lambda name, code: b"no signature at all", ring, errno.EBADMSG, "it is not a PKCS#7 message in DER"),
    ]
    for sign, keyring, code, words in cases:
        with refused(bpf2py.PermissionDenied, code, "program counted: load", words):
            bpf2py.load(spec, signing=Signing(sign, keyring))


@pytest.mark.kernel
@pytest.mark.skipif(CHECKS, reason="this kernel checks signatures")
def test_kernels_that_check_none_say_so(spec: bpf2py.ObjectSpec, keys: Keys, refused: Callable[..., Any]) -> None:
    number, words = errno.EOPNOTSUPP, "built without CONFIG_SYSTEM_DATA_VERIFICATION"
    if older_than("6.18"):
        number, words = errno.E2BIG, "came with Linux 6.18"
    with refused(bpf2py.NotSupported, number, "program counted: load", words):
        bpf2py.load(spec, signing=Signing(keys.sign, Keyring.SESSION))


def test_the_engine_has_no_keys(spec: bpf2py.ObjectSpec, keys: Keys, refused: Callable[..., Any]) -> None:
    with refused(bpf2py.NotSupported, None, "the engine has no keyrings"):
        bpf2py.load(spec, Engine(), signing=Signing(keys.sign, Keyring.SESSION))


def test_openssl_says_what_is_wrong(tmp_path: Path, refused: Callable[..., Any]) -> None:
    with refused(bpf2py.BpfError, None, "program p: sign: openssl refused: "):
        openssl_signer(tmp_path / "no.key", tmp_path / "no.pem")("p", bytes(8))
