"""The Python stack of the thread that a program runs in: ``from bpf2py.lang.python import PythonStack, python_stack``.

    class Sample(Struct):
        time_ns: u64
        stack: PythonStack

    samples = RingBuf[Sample](size=1 << 20)

    @perf_event
    def on_sample(ctx: PerfEventContext) -> int:
        sample = samples.reserve()
        if sample is None:
            return 0
        sample.time_ns = ktime_get_ns()
        python_stack(ctx, sample.stack)
        samples.submit(sample)
        return 0

The same as ``#include <bpf2py/python.h>`` for programs in C. `bpf2py.symbols.PythonStacks` tells the program which processes run
Python, and names the frames.
"""

from bpf2py.lang import Ptr, Struct, array, c_function, inline, s32, u8, u16, u32, u64

__all__ = ["PYTHON_DEPTH", "PythonFrame", "PythonStack", "python_stack"]

PYTHON_DEPTH = 64  # frames of a stack; deeper ones lose their outermost


class PythonFrame(Struct):
    """A frame, for `bpf2py.symbols.PythonStacks` to name."""

    code: u64  # the code object, and its line table: what user space knows it by
    linetable: u64
    instruction: u32  # in code units from the code's beginning
    flags: u32


class PythonStack(Struct):
    """The frames of a thread, the innermost first."""

    pid: u32
    count: u16  # frames
    truncated: u8  # there were more
    error: u8  # why there are none
    frames: array[PythonFrame, PYTHON_DEPTH]


@c_function("bpf2py/python.h")
def bpf2py_python_stack(ctx: Ptr[None], stack: Ptr[PythonStack]) -> s32:
    raise NotImplementedError


@inline
def python_stack(ctx: Ptr[None], stack: Ptr[PythonStack]) -> s32:
    """Fill in the stack of the current thread: how many frames, 0 where there are none (`PythonStack.error` says why)."""
    return bpf2py_python_stack(ctx, stack)
