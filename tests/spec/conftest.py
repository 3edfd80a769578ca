from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from bpf2py.spec.object_spec import ObjectSpec
from bpf2py.toolchain.compiler import Compiler, compile
from bpf2py.toolchain.find import MINIMUM_CLANG, ziglang_directory

HEAD = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n"


def compilers() -> list[Compiler]:
    wheel = ziglang_directory()
    assert wheel is not None
    names = ("clang", *(f"clang-{number}" for number in range(30, MINIMUM_CLANG - 1, -1)))
    path = next(filter(None, map(shutil.which, names)), None)
    return [*([Compiler("clang", (path,))] if path else []), Compiler("zig", (str(wheel / "zig"), "cc"))]


@pytest.fixture(params=compilers(), ids=lambda found: str(found.kind), scope="session")
def read(request: pytest.FixtureRequest) -> Callable[[str], ObjectSpec]:
    """Compile C with each kind of compiler, and read the object."""
    compiler: Compiler = request.param
    return lambda text: ObjectSpec.from_bytes(compile(HEAD + text, compiler=compiler), "test")
