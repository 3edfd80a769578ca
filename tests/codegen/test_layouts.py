"""Classes of generated modules have the layouts C gives the types: sizes, offsets, and every byte of a value."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bpf2py.btf.codec import Codec
from bpf2py.btf.values import StructCodec, UnionCodec
from bpf2py.codegen.build import Request, produce, write

SOURCES = Path(__file__).parent
# C type: its members, those of anonymous structs and unions among them; a colon before those that are bit-fields.
LAYOUTS = {
    "struct bitfields": ":a :b :c d",
    "struct packed": "a b c",
    "struct unions": "tag number text low high",
    "struct flexible": "count rest",
    "struct wide_enum": "value tail",
    "struct nested_arrays": "table many",
    "struct aligned": "a b c",
    "struct zero_size": "nothing a none b",
    "struct typedefs": "number other pad",
    "struct pointers": "one self args call names",
    "struct odd": "yes small large huge more last",
    "unnamed_t": "first inner either how last",
    "either_t": "text pair",
    "combined_t": "one two last",
}
# Of overlapping members, those a value is rebuilt from.
CHOSEN = {"struct unions": ("tag", "text"), "either_t": ("pair",)}
# Copies member by member, so that padding is zero; arrays of structs and structs in structs by their own members.
COPIES = {
    "struct nested_arrays": "COPY(table); for (int i = 0; i < 2; i++) { COPY(many[i].c); COPY(many[i].i); }",
    "struct unions": "COPY(tag); COPY(text);",
    "struct flexible": "COPY(count);",
    "struct odd": "to->yes = from->yes; COPY(small); COPY(large); COPY(huge); COPY(more); COPY(last);",
    "unnamed_t": "COPY(first); COPY(inner.s); COPY(inner.wide); COPY(either.text); COPY(how); COPY(last);",
    "either_t": "COPY(pair.low); COPY(pair.high);",
    "combined_t": "copy_unnamed_t(&to->one, &from->one); COPY(last);"
    " for (int i = 0; i < 2; i++) copy_either_t(&to->two[i], &from->two[i]);",
}


def word(c_type: str) -> str:
    return c_type.split()[-1]


def program() -> str:
    """C that prints size, offsets, sizes of members and a value of each type."""
    functions, body = "", ""
    for c_type, members in LAYOUTS.items():
        name, names = word(c_type), members.split()
        copies = "".join(
            f"to->{each[1:]} = from->{each[1:]};" if each[0] == ":" else f"COPY({each});" for each in names
        )
        copies = COPIES.get(c_type, copies)
        functions += f"static void copy_{name}({c_type} *to, {c_type} *from) {{ {copies} }}\n"
        body += f'printf("{c_type}|%zu|", sizeof({c_type}));\n'
        for member in names:
            if member[0] != ":":
                place = f"offsetof({c_type}, {member}), sizeof((({c_type} *)0)->{member})"
                body += f'printf("{member}=%zu:%zu ", {place});\n'
        body += (
            f"{{ {c_type} value; memset(&value, 0, sizeof(value)); fill(sizeof(value));"
            f' copy_{name}(&value, (void *)bytes); printf("|"); show(&value, sizeof(value)); }}\n'
        )
    return (
        "#include <stddef.h>\n#include <stdio.h>\n#include <string.h>\n"
        f'#include "{SOURCES / "layouts.h"}"\n'
        "#define COPY(m) memcpy((void *)&to->m, (void *)&from->m, sizeof(to->m))\n"
        "static unsigned char bytes[256] __attribute__((aligned(16)));\n"
        "static void fill(int n) { for (int i = 0; i < n; i++) bytes[i] = i % 7 == 3 ? 0x81 + i : i + 1; bytes[0] = 1; }\n"
        "static void show(void *p, int n) { for (int i = 0; i < n; i++) "
        'printf("%02x", ((unsigned char *)p)[i]); printf("\\n"); }\n'
        f"{functions}int main(void) {{ {body} return 0; }}\n"
    )


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What C says: size, places of members, bytes, by type."""
    directory = tmp_path_factory.mktemp("said")
    (directory / "layouts.c").write_text(program())
    cc = [sys.executable, "-m", "ziglang", "cc", "-w", "-O1", "-fno-strict-aliasing"]
    subprocess.run([*cc, "-o", directory / "layouts", directory / "layouts.c"], check=True)
    done = subprocess.run([directory / "layouts"], check=True, capture_output=True, text=True)
    rows = [line.split("|") for line in done.stdout.splitlines()]
    return {row[0]: row[1:] for row in rows}


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Any:
    directory = tmp_path_factory.mktemp("layouts")
    types = tuple(map(word, LAYOUTS))
    write(produce(Request("layouts", SOURCES / "layouts.bpf.c", directory, types=types)))
    spec = importlib.util.spec_from_file_location("layouts_bpfel", directory / "layouts_bpfel.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def class_of(module: Any, c_type: str) -> Any:
    return getattr(module, "".join(part.capitalize() for part in word(c_type).split("_")))


def places(codec: Codec[Any], base: int = 0) -> Iterator[tuple[str, tuple[int, int]]]:
    """(member, (offset, size)) as the codec has them."""
    assert isinstance(codec, StructCodec | UnionCodec)
    for field in codec.fields:
        if field.anonymous:
            yield from places(field.codec, base + field.offset)
        elif not field.bits:
            yield field.name, (base + field.offset, field.codec.size)


@pytest.mark.parametrize("c_type", LAYOUTS)
def test_layouts_are_those_of_c(c_type: str, module: Any, said: dict[str, list[str]]) -> None:
    """Bytes a C program makes are taken apart and put together again, member by member, without a difference."""
    size, members, text = said[c_type]
    cls = class_of(module, c_type)
    assert cls._codec.size == int(size)
    in_c = {name: value for name, _, value in (item.partition("=") for item in members.split())}
    assert {name: f"{at}:{length}" for name, (at, length) in places(cls._codec)} == in_c
    raw = bytes.fromhex(text)
    assert any(raw)
    value = cls._codec.decode(raw)
    assert bytes(value) == raw
    # Rebuilt from plain members alone: nothing is carried along unseen.
    given = {name: getattr(value, name) for name in CHOSEN.get(c_type, cls._fields)}
    assert bytes(cls(**given)) == raw


def test_every_layout_is_tested(module: Any, said: dict[str, list[str]]) -> None:
    assert set(said) == set(LAYOUTS)
    declared = (SOURCES / "layouts.bpf.c").read_text().count("*keep_")
    assert declared == len(LAYOUTS) >= 10
    assert type(module.CombinedT().one.inner) is module.UnnamedTInner
    assert type(module.UnnamedT().how) is module.UnnamedTHow
