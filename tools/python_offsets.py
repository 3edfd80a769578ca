"""Print the row of `bpf2py.symbols.python_offsets` for an interpreter: `python tools/python_offsets.py PYTHON...`.

Needs a C compiler and the interpreter's headers, internal ones included. For 3.11 and 3.12: newer ones publish their offsets.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

MEMBERS = {
    "interpreters_head": "offsetof(_PyRuntimeState, interpreters.head)",
    "interpreter_next": "offsetof(PyInterpreterState, next)",
    "threads_head": "offsetof(PyInterpreterState, threads.head)",
    "thread_next": "offsetof(PyThreadState, next)",
    "native_thread_id": "offsetof(PyThreadState, native_thread_id)",
    "cframe": "offsetof(PyThreadState, cframe)",
    "current_frame": "offsetof(_PyCFrame, current_frame)",
    "previous": "offsetof(_PyInterpreterFrame, previous)",
    "executable": "offsetof(_PyInterpreterFrame, f_code)",
    "instruction": "offsetof(_PyInterpreterFrame, prev_instr)",
    "owner": "offsetof(_PyInterpreterFrame, owner)",
    "is_entry": "IS_ENTRY",
    "filename": "offsetof(PyCodeObject, co_filename)",
    "qualname": "offsetof(PyCodeObject, co_qualname)",
    "linetable": "offsetof(PyCodeObject, co_linetable)",
    "firstlineno": "offsetof(PyCodeObject, co_firstlineno)",
    "code": "offsetof(PyCodeObject, co_code_adaptive)",
    "unicode_length": "offsetof(PyASCIIObject, length)",
    "unicode_state": "offsetof(PyASCIIObject, state)",
    "unicode_data": "sizeof(PyASCIIObject)",
    "unicode_wide": "sizeof(PyCompactUnicodeObject)",
    "bytes_size": "offsetof(PyVarObject, ob_size)",
    "bytes_data": "offsetof(PyBytesObject, ob_sval)",
}
HEAD = """#define Py_BUILD_CORE 1
#include <Python.h>
#include <stddef.h>
#include "internal/pycore_runtime.h"
#include "internal/pycore_interp.h"
#include "internal/pycore_frame.h"
#include "internal/pycore_code.h"
#if PY_VERSION_HEX < 0x030c0000
#define IS_ENTRY offsetof(_PyInterpreterFrame, is_entry)
#else
#define IS_ENTRY 0
#endif
"""


def offsets(python: str) -> dict[str, int]:
    """The offsets of an interpreter."""
    where = "import sysconfig; print(sysconfig.get_paths()['include'])"
    include = subprocess.run([python, "-c", where], capture_output=True, text=True, check=True).stdout.strip()
    prints = "".join(f'printf("{name} %zu\\n", (size_t)({text}));' for name, text in MEMBERS.items())
    compiler = shutil.which("cc") or shutil.which("clang") or sys.exit("a C compiler is needed")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "offsets.c")
        source.write_text(f"{HEAD}int main(void) {{ {prints} return 0; }}")
        flags = [f"-I{include}", f"-I{include}/internal", str(source), "-o", f"{folder}/offsets"]
        subprocess.run([compiler, *flags], check=True)
        lines = subprocess.run([f"{folder}/offsets"], capture_output=True, text=True, check=True).stdout.splitlines()
    return {name: int(value) for name, value in (line.split() for line in lines)}


if __name__ == "__main__":
    for interpreter in sys.argv[1:] or [sys.executable]:
        found = offsets(interpreter)
        print(f"# {interpreter}\nOffsets({', '.join(f'{name}={value}' for name, value in found.items())})")
