"""Kernel functions on strings: the engine's answers are the running kernel's, for texts of all kinds and lengths."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

import bpf2py
from bpf2py.engine import Engine

SOURCE = """
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
char a[24], b[24];
u64 count, bad;
int letter;
int results[12];
SEC("syscall") int try_all(void *ctx)
{
	const char *x = a, *y = b;
	results[0] = bpf_strcmp(x, y);
	results[1] = bpf_strchr(x, letter);
	results[2] = bpf_strnchr(x, count, letter);
	results[3] = bpf_strchrnul(x, letter);
	results[4] = bpf_strrchr(x, letter);
	results[5] = bpf_strlen(x);
	results[6] = bpf_strnlen(x, count);
	results[7] = bpf_strspn(x, y);
	results[8] = bpf_strcspn(x, y);
	results[9] = bpf_strstr(x, y);
	results[10] = bpf_strnstr(x, y, count);
	return 0;
}
"""
FOLDED = SOURCE.replace("	return 0;", "	results[11] = bpf_strcasecmp(x, y);\n	return 0;")
NAMES = "strcmp strchr strnchr strchrnul strrchr strlen strnlen strspn strcspn strstr strnstr strcasecmp".split()


def texts(rng: random.Random) -> tuple[bytes, bytes]:
    alphabet = rng.choice([b"ab", b"abcAB", bytes(range(1, 256))])
    first = bytes(rng.choice(alphabet) for _ in range(rng.randrange(20)))
    second = first[rng.randrange(len(first) + 1) :][: rng.randrange(8)] if rng.random() < 0.4 else None
    if second is None:
        second = first if rng.random() < 0.2 else bytes(rng.choice(alphabet) for _ in range(rng.randrange(6)))
    return first, second


@pytest.mark.kernel
@pytest.mark.since("6.17")
def test_as_in_the_kernel(compile_bpf: Callable[[str], bytes]) -> None:
    data = compile_bpf(FOLDED if bpf2py.features.kfunc("bpf_strcasecmp") else SOURCE)
    rng = random.Random(5)
    with bpf2py.load(data) as kernel, bpf2py.load(data, backend=Engine()) as engine:
        for _ in range(3000):
            first, second = texts(rng)
            values: dict[str, Any] = {
                "a": first.decode("utf-8", "surrogateescape"), "b": second.decode("utf-8", "surrogateescape"),
                "count": rng.choice([0, 1, 2, 5, 19, 20, 23, 1 << 40]), "letter": rng.choice([0, 97, 98, 65, 255, -1, 256 + 97]),
            }  # fmt: skip
            found = []
            for obj in (kernel, engine):
                for name, value in values.items():
                    obj.variables[name].value = value
                obj.programs["try_all"].test_run()
                found.append(dict(zip(NAMES, obj.variables["results"].value, strict=True)))
            assert found[0] == found[1], values


@pytest.mark.kernel
@pytest.mark.since("6.17")
def test_what_is_not_a_string(compile_bpf: Callable[[str], bytes]) -> None:
    source = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
extern int bpf_strlen(const char *) __ksym;
extern int bpf_strcmp(const char *, const char *) __ksym;
long at;
int length, order;
char text[] = "x";
SEC("syscall") int run(void *ctx) { length = bpf_strlen((void *)at); order = bpf_strcmp(text, (void *)at); return 0; }
"""
    with bpf2py.load(compile_bpf(source)) as kernel, bpf2py.load(compile_bpf(source), backend=Engine()) as engine:
        for address, error in ((0, -34), (1, -34), (-1, -14)):
            for obj in (kernel, engine):
                obj.variables["at"].value = address
                obj.programs["run"].test_run()
                assert (obj.variables["length"].value, obj.variables["order"].value) == (error, error)
