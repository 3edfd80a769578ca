"""`verify()`: does each program of an object load, does it attach, and how hard has the verifier to work for it.

The numbers are those of the kernel's own tool for this (tools/testing/selftests/bpf/veristat.c), from the statistics at the end of
the verifier's log.
"""

from __future__ import annotations

import os
import platform
import re
import warnings
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple, cast

from bpf2py.backends import resolve_backend
from bpf2py.errors import BpfError, PermissionDenied, VerifierError
from bpf2py.loading import Source, read_spec
from bpf2py.object import Object
from bpf2py.seam.verifier_stats import VerifierStats, verifier_stats
from bpf2py.spec.needs import Need, functions_of, needs, release_key
from bpf2py.spec.object_spec import ObjectSpec, object_name
from bpf2py.toolchain.compiler import compile

__all__ = ["ProgramReport", "first_difference", "from_json", "object_of", "reports", "reports_of", "to_json", "verify"]

STATISTICS = 4
SUCCESS, FAILURE = "success", "failure"


class ProgramReport(NamedTuple):
    """What became of one program of an object.

    Attributes:
        file: the object's name.
        program: the program's name.
        kernel: release of the kernel that was asked.
        verdict: ``"success"`` or ``"failure"``.
        error: why not; empty after a success.
        attached: whether it attached; None where that was not tried or its section does not say where.
        attach_error: why not.
        needs: a newer kernel it needs, and because of what; empty where the tables know of nothing.
        optional: it is not loaded unless asked for: its section begins with ``?``.
        size: instructions (of 8 bytes) it has, with those of the functions it calls.
        jited_size: bytes of machine code, 0 after a failure or without a JIT.
        stats: what the verifier says of its work; None where it says nothing, as when a map cannot be made.
        log: the verifier's log.
    """

    file: str
    program: str
    kernel: str
    verdict: str
    error: str = ""
    attached: bool | None = None
    attach_error: str = ""
    needs: str = ""
    optional: bool = False
    size: int = 0
    jited_size: int = 0
    stats: VerifierStats | None = None
    log: str = ""

    @property
    def loads(self) -> bool:
        """Whether the kernel accepts it."""
        return self.verdict == SUCCESS


def verify(source: Source, *, attach: bool = False, log_level: int = STATISTICS) -> list[ProgramReport]:
    """Load every program of an object into the running kernel, and let go of it.

    A program that is refused does not keep the others from being tried: after a failure each is loaded alone. Those not loaded
    unless asked for (``SEC("?...")``) are tried as well.

    Args:
        source: what `bpf2py.load` takes.
        attach: attach each as well, where its section says to what.
        log_level: what the verifier writes to `ProgramReport.log`; see `bpf2py.load`.

    Raises CompileError, ObjectError or OSError for a source that cannot be read, PermissionDenied where nothing may be loaded.
    """
    spec = read_spec(source)
    level = log_level | STATISTICS
    usual = {name for name, program in spec.programs.items() if program.autoload}
    reports: dict[str, ProgramReport] = {}
    try:
        reports |= _load(spec, usual, attach, level)
    except PermissionDenied as error:
        if not spec.programs or error.command == "BPF_MAP_CREATE":
            raise
        for name in usual:
            reports[name] = _alone(spec, name, attach, level)
    except (BpfError, OSError):
        for name in usual:
            reports[name] = _alone(spec, name, attach, level)
    for name in spec.programs:
        if name not in usual:
            reports[name] = _alone(spec, name, attach, level)._replace(optional=True)
    known = needs(spec) if not all(report.loads for report in reports.values()) else []
    return [_explained(reports[name], spec, known) for name in spec.programs]


def _explained(report: ProgramReport, spec: ObjectSpec, known: list[Need]) -> ProgramReport:
    """With what holds on every kernel, and with the newer kernel that a refused program needs."""
    size = sum(len(function.code) // 8 for function in functions_of(spec, spec.programs[report.program].function))
    because = ""
    if not report.loads:
        users = (f"program {report.program}", *(f"map {name}" for name in spec.maps))
        newer = [need for need in known if need.user in users and _older(report.kernel, need.since)]
        because = f"Linux {newer[0].since} for {newer[0].what}" if newer else ""
    return report._replace(size=size, needs=because)


def _older(kernel: str, release: str) -> bool:
    try:
        return release_key(kernel) < release_key(release)
    except ValueError:
        return False


def reports(name: str, attach: bool, log_level: int, blob: bytes = b"", path: str = "") -> list[dict[str, Any]]:
    """`verify` for whoever asks from another machine: of an object's bytes or of a file, as JSON knows it."""
    spec = ObjectSpec.from_bytes(blob, name) if blob else ObjectSpec.from_bytes(Path(path).read_bytes(), name)
    return [to_json(each) for each in verify(spec, attach=attach, log_level=log_level)]


def object_of(source: str | os.PathLike[str], arch: str | None = None) -> tuple[str, bytes]:
    """The name and the bytes of a good object file, or of what a source is compiled to, for an architecture
    as `bpf2py.compile` names it.

    Raises CompileError, ObjectError or OSError.
    """
    path = os.fspath(source)
    data = compile(path, arch=arch) if path.endswith((".c", ".py")) else Path(path).read_bytes()
    ObjectSpec.from_bytes(data, object_name(path))  # what is damaged is refused here, not in a guest
    return object_name(path), data


def to_json(report: ProgramReport) -> dict[str, Any]:
    """A report as JSON knows it."""
    return report._asdict() | {"stats": report.stats._asdict() if report.stats is not None else None}


def from_json(facts: dict[str, Any]) -> ProgramReport:
    """A report from what `to_json` made of it. Raises TypeError or KeyError for anything else."""
    stats = facts["stats"]
    if stats is not None:
        stats = VerifierStats(**stats | {"stack_depths": tuple(stats["stack_depths"])})
    return ProgramReport(**facts | {"stats": stats})


def reports_of(answer: object) -> list[ProgramReport]:
    """What `reports` gave, after its way as JSON."""
    return [from_json(each) for each in cast("list[dict[str, Any]]", answer)]


def _load(spec: ObjectSpec, wanted: set[str], attach: bool, level: int) -> dict[str, ProgramReport]:
    """Reports of programs that load together. Raises what loading raises."""
    copy = spec.copy()
    for each in copy.programs.values():
        each.autoload = each.name in wanted
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # of types the kernel does not take: it says so in what it reports, or does without
        with Object(copy, resolve_backend("kernel"), log_level=level) as obj:
            for name, program in obj.programs.items():
                info = program.info
                attached, attach_error = _attach(obj, name) if attach else (None, "")
                found[name] = ProgramReport(
                    spec.name,
                    name,
                    platform.release(),
                    SUCCESS,
                    attached=attached,
                    attach_error=attach_error,
                    jited_size=info.jited_len,
                    stats=program.verifier_stats,
                    log=program.verifier_log,
                )
    return found


def _alone(spec: ObjectSpec, name: str, attach: bool, level: int) -> ProgramReport:
    # The programs of a struct_ops map can only be loaded with it, and it needs them all.
    partners = {name}
    for each in spec.maps.values():
        if each.struct_ops is not None and name in each.struct_ops.functions.values():
            partners |= set(each.struct_ops.functions.values())
    try:
        return _load(spec, partners, attach, level)[name]
    except VerifierError as error:
        log = error.log
        return ProgramReport(
            spec.name, name, platform.release(), FAILURE, error.message, stats=verifier_stats(log), log=log
        )
    except (BpfError, OSError) as error:
        return ProgramReport(spec.name, name, platform.release(), FAILURE, str(error))


def _attach(obj: Object, name: str) -> tuple[bool | None, str]:
    program = obj.programs[name]
    if not obj.backend.can_attach(obj.spec.programs[name]):
        return None, ""
    try:
        program.attach().close()
    except (BpfError, OSError, ValueError) as error:
        return False, str(error)
    return True, ""


_STEP = re.compile(r"\d+: \([0-9a-f]{2}\) ")
# What differs from kernel to kernel though the step is the same: states, addresses, and numbers of kernel functions.
_STATE = re.compile(r"\s*;.*|#\d+\b|0x[0-9a-f]{9,}")
_SUMMARY = ("verification time", "stack depth", "processed ")


class Difference(NamedTuple):
    """Where two logs part.

    Attributes:
        source: the line of the source the verifier was at, empty where neither log has one.
        ours, theirs: the step each log has there; where a log has no more, its last line, which says why, or nothing.
    """

    source: str
    ours: str
    theirs: str


def first_difference(ours: str, theirs: str) -> Difference | None:
    """The first step that two verifier logs (of level 2) of the same program do not share; None if there is none."""
    left, right = _steps(ours), _steps(theirs)
    for mine, other in zip_longest(left, right):
        if mine is None or other is None or mine[0] != other[0]:
            return Difference(
                (mine or other or left[-1])[2],
                mine[1] if mine is not None else _last_word(ours),
                other[1] if other is not None else _last_word(theirs),
            )
    return None


def _steps(log: str) -> list[tuple[str, str, str]]:
    """(what to compare, the line, the source line it belongs to) of each step."""
    found, source = [], ""
    for line in log.splitlines():
        if line.startswith("; "):
            source = line[2:].strip()
        elif _STEP.match(line):
            found.append((_STATE.sub("", line).strip(), line.strip(), source))
    return found


def _last_word(log: str) -> str:
    """The line a log ends with, apart from the statistics, unless it is a step."""
    last = next((line for line in reversed(log.splitlines()) if line and not line.startswith(_SUMMARY)), "")
    return "" if _STEP.match(last) else last.strip()
