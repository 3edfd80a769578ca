"""Signed programs (Linux 6.18): the kernel checks who made a program before it looks at what it does.

The signature is over the instructions as BPF_PROG_LOAD is given them: after CO-RE and with this kernel's numbers of types and
functions, but with maps by their index, so that it does not depend on descriptors. The same object on the same kernel gives the
same instructions, and a signature may be made once, elsewhere, and be looked up by their SHA-256.

The kernel loads programs without a signature as before: that all must have one is for an LSM to say (hook bpf_prog_load).
"""

from __future__ import annotations

import os
import subprocess

from bpf2py.errors import BpfError
from bpf2py.seam.signing import Sign, Signing
from bpf2py.uapi.keyrings import Keyring

__all__ = ["Keyring", "Sign", "Signing", "openssl_signer"]

# Detached, of the bytes as they are, without attributes and certificates: what the kernel takes.
_COMMAND = "cms -sign -binary -noattr -nocerts -nosmimecap -md sha256 -outform DER".split()


def openssl_signer(key: str | os.PathLike[str], certificate: str | os.PathLike[str]) -> Sign:
    """Signs with a private key, by the ``openssl`` program.

    Args:
        key: file of the private key, PEM.
        certificate: file of its X.509 certificate, PEM; the kernel must have it in the keyring, as DER:
            ``openssl x509 -in cert.pem -outform DER | keyctl padd asymmetric mine @s``.

    The signer that is returned raises FileNotFoundError if openssl is not installed, BpfError if it fails.

    Example:
        >>> signing = Signing(openssl_signer("key.pem", "cert.pem"), Keyring.SESSION)    # doctest: +SKIP
        >>> bpf2py.load("counter.bpf.c", signing=signing)                                # doctest: +SKIP
    """

    def sign(name: str, code: bytes) -> bytes:
        argv = ["openssl", *_COMMAND, "-inkey", os.fspath(key), "-signer", os.fspath(certificate)]
        done = subprocess.run(argv, input=code, capture_output=True)
        if done.returncode:
            text = done.stderr.decode("utf-8", "replace").strip()
            raise BpfError(
                f"program {name}: sign: openssl refused: {text.splitlines()[0] if text else done.returncode}"
            )
        return done.stdout

    return sign
