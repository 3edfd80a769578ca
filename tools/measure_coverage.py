"""Which lines of src the tests run: with rights, without any, and in the virtual machine; all of it together.

    python tools/measure_coverage.py [--least PERCENT] [--runs rooted,unrooted,vm]

Takes three times as long as the tests. Prints the files by what is missing in them, writes pages to .coverage-html, and fails where
less than the wanted part is covered. Lines that run only in processes that are killed, or in children after fork(), are not seen.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What somebody without rights meets: errors, what needs no kernel, and the engine through the command line.
UNROOTED = [
    "tests/cli", "tests/test_doctor.py", "tests/test_api.py", "tests/test_contract.py", "tests/test_plugin.py",
    "tests/test_examples.py", "tests/kernel/test_diagnosis.py", "tests/kernel/test_features.py", "tests/engine/test_engine.py",
]  # fmt: skip


# What these look at coverage changes: which modules are imported, and that nothing is said.
DISTURBED = [
    "tests/cli/test_declared.py::test_listing_imports_neither_typer_nor_rich",
    "tests/cli/test_dump_startup.py::test_only_what_reading_a_map_needs",
    "tests/kernel/test_load.py::test_unprivileged",
]


def measured(arguments: list[str], data: Path, *, before: list[str] | None = None) -> int:
    """Run pytest under coverage; its exit status."""
    command = [sys.executable, "-m", "coverage", "run", "-m", "pytest", "-p", "no:cacheprovider", "-q", *arguments]
    command += [f"--deselect={name}" for name in DISTURBED]
    print(f"coverage: {' '.join(command[2:])}", flush=True)
    # A cache of its own: what is in one already is not compiled.
    environment = dict(os.environ, COVERAGE_FILE=str(data), BPF2PY_CACHE_DIR=str(data.parent / "cache"))
    return subprocess.run([*(before or []), *command], cwd=ROOT, env=environment, check=False).returncode


def rooted(folder: Path) -> int:
    """All tests, as `make test` runs them."""
    return measured(["-n", "2", "--timeout", "600"], folder / "rooted")


def unrooted(folder: Path) -> int:
    """Without capabilities: bpf() is not permitted."""
    drop = []
    if os.geteuid() == 0:
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            print("coverage: no setpriv here: nothing is run without rights", file=sys.stderr)
            return 0
        drop = [setpriv, "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"]
    return measured(["--timeout", "600", *UNROOTED], folder / "unrooted", before=drop)


def vm(folder: Path) -> int:
    """What only kernels with kprobes and trampolines run."""
    argv = [
        sys.executable,
        "tools/vm.py",
        "--kernel",
        "6.12",
        "--hooks",
        "--timeout",
        "3000",
        "--coverage",
        str(folder / "vm"),
    ]
    return subprocess.run(argv, cwd=ROOT, check=False).returncode


RUNS = {"rooted": rooted, "unrooted": unrooted, "vm": vm}


def main() -> int:
    """Measure, and say what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--least", type=float, default=90.0, help="percent of the lines that must be covered")
    parser.add_argument("--runs", default=",".join(RUNS), help="which of the runs, with commas")
    options = parser.parse_args()
    failed = []
    with tempfile.TemporaryDirectory(prefix="bpf2py-coverage-") as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)
        for name in options.runs.split(","):
            status = RUNS[name](folder)
            if status:
                failed.append(name)
                print(f"coverage: the tests of {name} ended with {status}", file=sys.stderr)
        coverage = [sys.executable, "-m", "coverage"]
        environment = dict(os.environ, COVERAGE_FILE=str(ROOT / ".coverage"))
        found = [str(path) for path in folder.rglob("*") if path.is_file() and path.name.startswith(tuple(RUNS))]
        subprocess.run([*coverage, "combine", "--quiet", *found], cwd=ROOT, env=environment, check=True)
        subprocess.run([*coverage, "html", "--quiet", "-d", ".coverage-html"], cwd=ROOT, env=environment, check=True)
        report = [*coverage, "report", "--sort=miss", f"--fail-under={options.least}"]
        status = subprocess.run(report, cwd=ROOT, env=environment, check=False).returncode
    return status or bool(failed)


if __name__ == "__main__":
    sys.exit(main())
