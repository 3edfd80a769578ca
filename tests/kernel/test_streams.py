"""What programs print into streams of their own."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

import bpf2py
from bpf2py.cli import main

pytestmark = pytest.mark.kernel

SOURCE = """
#define BPF_STDOUT 1
#define BPF_STDERR 2
int printed, failed;
SEC("syscall") int print(void *ctx) {
    printed += bpf_stream_printk(BPF_STDOUT, "plain\\n");
    printed += bpf_stream_printk(BPF_STDOUT, "%d %s %llx\\n", -7, "text", 1ULL << 40);
    failed = bpf_stream_printk(BPF_STDERR, "wrong\\n");
    return 0;
}
"""


@pytest.mark.since("6.17")
def test_streams_are_read_and_emptied(build: Callable[[str], bpf2py.ObjectSpec], assert_no_leaks: Any) -> None:
    spec = build(SOURCE)
    bpf2py.load(spec).close()  # the kernel's types are open from here on
    with assert_no_leaks(), bpf2py.load(spec) as obj:
        program = obj.programs["print"]
        assert (program.stdout(), program.stderr()) == ("", "")
        with pytest.raises(bpf2py.BpfOSError, match="stream 9"):
            program.stream(9)
        program.test_run()
        if obj.variables["failed"].value == -errno.ENOMEM:
            assert program.stderr() == ""
            pytest.skip("this kernel's kmalloc_nolock(), which streams are made of, always fails")
        assert (obj.variables["printed"].value, obj.variables["failed"].value) == (0, 0)
        assert program.stdout() == "plain\n-7 text 10000000000\n"
        assert program.stdout() == ""
        assert program.stream(2) == b"wrong\n"
        for _ in range(4000):
            program.test_run()
        text = program.stdout()
        assert 50_000 < len(text) <= 100_000
        assert text.startswith("plain\n")
        assert obj.variables["failed"].value == 0
    with pytest.raises(bpf2py.ClosedError):
        program.stdout()


@pytest.mark.since("6.17")
def test_the_command_line_prints_them(
    build: Callable[[str], bpf2py.ObjectSpec], capsys: pytest.CaptureFixture[str]
) -> None:
    with bpf2py.load(build(SOURCE)) as obj:
        program = obj.programs["print"]
        program.test_run()
        written = obj.variables["failed"].value != -errno.ENOMEM  # else the kernel had no memory for it
        for options, text in (([], "plain\n-7 text 10000000000\n"), (["--stderr"], "wrong\n")):
            main(["prog", "stream", str(program.info.id), *options])
            assert capsys.readouterr().out == (text if written else "")
        assert program.stdout() == ""
        with pytest.raises(SystemExit):
            main(["prog", "stream", "no such program"])


def test_kernels_without_streams(build: Callable[[str], bpf2py.ObjectSpec]) -> None:
    from bpf2py.kernel.syscall import older_than

    with bpf2py.load(build(SOURCE)) as obj:
        obj.programs["print"].test_run()
        if older_than("6.17"):
            assert obj.variables["failed"].value == -95
            with pytest.raises(bpf2py.NotSupported, match=r"program streams need Linux 6\.17"):
                obj.programs["print"].stdout()
        else:
            assert obj.variables["failed"].value in (0, -errno.ENOMEM)
