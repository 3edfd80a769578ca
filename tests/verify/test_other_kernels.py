"""`bpf2py verify` on a kernel in a virtual machine, and the pytest fixture that starts one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import bpf2py
from bpf2py.errors import ObjectError
from bpf2py.testing import Guest, verify_on

pytest_plugins = ["pytester"]


class TestOtherKernels:
    def test_verdicts_of_another_kernel(self, guest: Guest, mixed: Path) -> None:
        found = {each.program: each for each in guest.verify(mixed, attach=True)}
        assert {name: each.verdict for name, each in found.items()} == {
            "good": "success", "newer": "success", "bad": "failure", "asked_for": "success", "no_hook": "success",
            "calls": "success",
        }  # fmt: skip
        assert {each.kernel for each in found.values()} == {guest.release}
        assert found["good"].attached is True
        assert found["no_hook"].attached is False

    def test_a_damaged_object_is_not_sent(self, guest: Guest, tmp_path: Path) -> None:
        path = tmp_path / "damaged.o"
        path.write_bytes(b"\x7fELF" + bytes(60))
        with pytest.raises(ObjectError):
            guest.verify(path)

    def test_what_users_of_the_loader_see_there(self, guest: Guest) -> None:
        examples = sorted((Path(__file__).parents[2] / "examples").glob("*.bpf.c"))
        assert len(examples) > 5
        verdicts = {path.stem: all(each.loads for each in guest.verify(path)) for path in examples}
        for path in examples:
            guest.write(f"/tmp/{path.stem}.o", bpf2py.compile(path))
        done = guest.run(["python", "-c", LOADER, *(f"/tmp/{path.stem}.o" for path in examples)])
        assert done.stderr == ""
        assert json.loads(done.stdout) == verdicts

    def test_the_command_starts_the_kernel_once_for_all_files(self, guest: Guest, mixed: Path) -> None:
        rows = verify_on("6.12", [mixed, Path(__file__).parents[2] / "examples" / "opens.bpf.c"])
        assert {each.file for each in rows} == {"mixed", "opens"}
        assert {each.kernel for each in rows} == {guest.release}


LOADER = """
import json, pathlib, sys, bpf2py
found = {}
for path in sys.argv[1:]:
    try:
        with bpf2py.load(path):
            found[pathlib.Path(path).stem] = True
    except bpf2py.BpfError:
        found[pathlib.Path(path).stem] = False
print(json.dumps(found))
"""


def test_the_fixture_runs_a_test_for_each_kernel(pytester: pytest.Pytester, guest: Guest) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.bpf2py(kernels=["6.12"])
        def test_marked(bpf2py_guest):
            assert bpf2py_guest.release.startswith("6.12")

        def test_by_setting(bpf2py_guest):
            assert bpf2py_guest.release.startswith("6.12")
        """
    )
    pytester.makeini("[pytest]\nbpf2py_kernels = 6.12\n")
    result = pytester.runpytest_subprocess("-v", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*test_marked[[]6.12[]]*", "*test_by_setting[[]6.12[]]*"])
