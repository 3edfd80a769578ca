"""`bpf2py verify`: do the programs of objects load, here and on other kernels, and how hard has the verifier to work."""

from __future__ import annotations

import csv
import fnmatch
import json
import sys
from pathlib import Path

from bpf2py._typing import Any
from bpf2py.cli import declared as typer
from bpf2py.cli.table import aligned, terminal_width
from bpf2py.errors import BpfError, EncodeError
from bpf2py.loading import read_spec
from bpf2py.printable import printable
from bpf2py.spec.needs import needs as needs_of
from bpf2py.spec.needs import release_key
from bpf2py.testing.on_kernels import HOST, verify_on
from bpf2py.testing.verdicts import STATISTICS, ProgramReport, first_difference, from_json, to_json

COLUMNS = (
    "file", "program", "kernel", "verdict", "attached", "duration_us", "insns", "states", "peak_states", "max_states_per_insn",
    "stack", "size", "jited_size",
)  # fmt: skip
LEVELS = {False: STATISTICS, True: STATISTICS | 2}  # with the steps; level 1 keeps only those of a path that fails
OLDEST = "5.10"  # of the kernels this library is for: what every one of them has is not worth a line


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify")(verify)


def verify(
    files: list[str] = typer.Argument(..., metavar="FILE...", help="Sources (.c, .py) and object files."),
    kernels: str = typer.Option(
        HOST,
        "--kernels",
        "-k",
        metavar="NAMES",
        help="Kernels apart by commas: host is the running one; a series from 5.10 to the newest, such as 6.12, is "
        "Debian's newest of it, started in a virtual machine; anything else is the path of an image.",
    ),
    arch: str = typer.Option(
        None,
        "--arch",
        metavar="NAME",
        help="Architecture of the kernels: x86_64 or aarch64; this machine's if not said.",
    ),
    attach: bool = typer.Option(False, "--attach", help="Attach each program as well, where its section says to what."),
    needs: bool = typer.Option(
        False, "--needs", help="Load nothing: say which kernel each object needs, and because of what."
    ),
    program: str = typer.Option("*", "--program", metavar="PATTERN", help="Programs with such names alone."),
    failures: bool = typer.Option(False, "--failures", help="Show what is refused alone."),
    sort: str = typer.Option(
        None, "--sort", metavar="COLUMN", help="Sort by a column, numbers from the largest on; by file if not said."
    ),
    logs: str = typer.Option(
        None, "--logs", metavar="DIRECTORY", help="Keep the verifier's logs, a file for each program and kernel."
    ),
    differences: bool = typer.Option(
        False, "--differences", help="Show where the verifier's logs of two kernels part first."
    ),
    save: str = typer.Option(None, "--save", metavar="FILE", help="Keep the results for a later --baseline."),
    baseline: str = typer.Option(
        None, "--baseline", metavar="FILE", help="Compare with the results of an earlier --save: show what changed."
    ),
    max_growth: float = typer.Option(
        None,
        "--max-growth",
        metavar="PERCENT",
        help="With --baseline: fail where the verifier walks through so many percent more instructions.",
    ),
    as_csv: bool = typer.Option(False, "--csv", help="Print CSV."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON, for programs."),
) -> None:
    """Load every program of objects into one or several kernels, and say what the verifier makes of it.

    Exit status: 1 if a program is refused, or does not attach with --attach; with --baseline, if that is new. Programs that are
    loaded when asked for (SEC("?...")) do not count.

    Examples:

        bpf2py verify opens.bpf.c

        bpf2py verify *.bpf.o --kernels host,6.1,6.12 --attach

        bpf2py verify opens.bpf.c --kernels 6.12 --arch aarch64

        bpf2py verify opens.bpf.c --baseline before.json --max-growth 10
    """
    if needs:
        _show_needs(files, as_json)
        return
    if sort is not None and sort not in COLUMNS:
        raise EncodeError(f"--sort: there is no column {sort!r}; there are: {', '.join(COLUMNS)}")
    before = _read_baseline(baseline) if baseline is not None else None
    wanted = [name.strip() for name in kernels.split(",") if name.strip()]
    if not wanted:
        raise EncodeError("--kernels names none: host, 6.1, 6.12, or the path of an image")
    found = []
    with_steps = differences or logs is not None
    for kernel in wanted:
        found += verify_on(kernel, files, arch=arch, attach=attach, log_level=LEVELS[with_steps], say=_say)
    found = [each for each in found if fnmatch.fnmatchcase(each.program, program)]
    if save is not None:
        _write(save, json.dumps([to_json(each._replace(log="")) for each in found], indent=1) + "\n")
    if logs is not None:
        _keep_logs(Path(logs), found)
    shown = [each for each in found if not failures or _failed(each)]
    rows = [_row(each) for each in shown]
    if sort is not None:
        rows.sort(key=lambda row: (isinstance(row[sort], str), row[sort] if isinstance(row[sort], str) else -row[sort]))
    else:
        rows.sort(key=lambda row: (row["file"], row["program"]))
    parts = _partings(found) if differences else []
    if as_json:
        facts = [to_json(each) | {"kernel_name": _name_of(each, found, wanted)} for each in shown]
        for each in facts:
            del each["log"]
        typer.echo(json.dumps(facts))
    elif as_csv:
        writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    elif before is not None:
        _show_changes(before, found)
    else:
        _show(rows, attach)
        _show_failures(shown)
    if not as_json and not as_csv:
        for text in parts:
            typer.echo(f"\n{printable(text, keep=chr(10))}")
    worse = _worse(before, found, max_growth)
    if worse:
        if before is not None and not as_json:
            typer.echo("\n".join(printable(text) for text in worse), err=True)
        raise typer.Exit(1)


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(f"bpf2py: {printable(text)}", file=sys.stderr, flush=True)


def _failed(report: ProgramReport) -> bool:
    return not report.optional and (not report.loads or report.attached is False)


def _row(report: ProgramReport) -> dict[str, Any]:
    stats = report.stats
    attached = {True: "yes", False: "no", None: ""}[report.attached]
    row: dict[str, Any] = {"file": report.file, "program": report.program, "kernel": report.kernel}
    row |= {"verdict": report.verdict, "attached": attached, "size": report.size, "jited_size": report.jited_size}
    if stats is not None:
        row |= {"duration_us": stats.duration_us, "insns": stats.instructions, "states": stats.states}
        row |= {"peak_states": stats.peak_states, "max_states_per_insn": stats.max_states_per_instruction}
        row |= {"stack": stats.stack_depth}
    return {name: row.get(name, 0) for name in COLUMNS}


def _show(rows: list[dict[str, Any]], attach: bool) -> None:
    if not rows:
        typer.echo("nothing to show")
        return
    columns = [name for name in COLUMNS if attach or name != "attached"]
    table = [[str(row[name]) for name in columns] for row in rows]
    heads = [name.replace("max_states_per_insn", "max/insn").replace("duration_us", "us") for name in columns]
    typer.echo("\n".join(aligned(heads, table, terminal_width())))


def _show_failures(reports: list[ProgramReport]) -> None:
    said: dict[str, list[str]] = {}  # by what is said: on which kernels
    for each in reports:
        if not each.loads or each.attached is False:
            more = f"\n  it needs {each.needs}" if each.needs else ""
            said.setdefault((each.error or each.attach_error) + more, []).append(each.kernel)
    for text, releases in said.items():
        text = f"Linux {', '.join(releases)}: {text}"
        typer.echo("\n" + printable(text, keep="\n"))


def _show_needs(files: list[str], as_json: bool) -> None:
    rows = []
    for file in files:
        spec = read_spec(file)
        rows += [{"file": spec.name, "needs": each.since, "for": each.what, "by": each.user} for each in needs_of(spec)]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    newer = [row for row in rows if release_key(row["needs"]) > release_key(OLDEST)]
    for name in dict.fromkeys(row["file"] for row in rows):
        mine = [row["needs"] for row in newer if row["file"] == name]
        typer.echo(f"{printable(name)} needs Linux {mine[0] if mine else f'{OLDEST} or older'}")
    if newer:
        table = [[row["file"], row["needs"], row["for"], row["by"]] for row in newer]
        typer.echo("\n" + "\n".join(aligned(["file", "needs", "for", "by"], table, terminal_width())))


def _name_of(report: ProgramReport, found: list[ProgramReport], wanted: list[str]) -> str:
    """What a kernel was asked for by: they were asked in this order."""
    releases = list(dict.fromkeys(each.kernel for each in found))
    index = releases.index(report.kernel)
    return wanted[index] if len(releases) == len(wanted) else report.kernel


def _read_baseline(path: str) -> list[ProgramReport]:
    try:
        text = Path(path).read_text(encoding="utf-8")
        return [from_json(each) for each in json.loads(text)]
    except OSError as error:
        raise BpfError(f"--baseline {path}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError):
        raise BpfError(f"--baseline {path}: it is not a file that --save wrote") from None


def _write(path: str | Path, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise BpfError(f"{path}: {error.strerror}") from None


def _keep_logs(directory: Path, found: list[ProgramReport]) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BpfError(f"--logs {directory}: {error.strerror}") from None
    for each in found:
        name = "".join(
            c if c.isalnum() or c in "-_.+" else "_" for c in f"{each.file}.{each.program}.{each.kernel}"[:200]
        )
        _write(directory / f"{name}.log", each.log or each.error)


def _partings(found: list[ProgramReport]) -> list[str]:
    """Where the logs of each program's first kernel and the others' part."""
    texts = []
    first: dict[tuple[str, str], ProgramReport] = {}
    for each in found:
        other = first.setdefault((each.file, each.program), each)
        if other is each:
            continue
        parting = first_difference(other.log, each.log)
        if parting is None:
            texts.append(f"{each.program}: Linux {other.kernel} and {each.kernel} take the same steps")
            continue
        at = f" at: {parting.source}" if parting.source else ""
        texts.append(
            f"{each.program}: the first difference{at}\n  {other.kernel}: {parting.ours or '(the log ends)'}\n"
            f"  {each.kernel}: {parting.theirs or '(the log ends)'}"
        )
    return texts


def _pairs(before: list[ProgramReport], found: list[ProgramReport]) -> list[tuple[ProgramReport, ProgramReport]]:
    """Reports of the same program on the same series of kernels, before and now."""
    known = {(each.file, each.program, _series(each.kernel)): each for each in before}
    return [(known[key], each) for each in found if (key := (each.file, each.program, _series(each.kernel))) in known]


def _series(kernel: str) -> str:
    return ".".join(kernel.split("-", 1)[0].split(".")[:2])


def _show_changes(before: list[ProgramReport], found: list[ProgramReport]) -> None:
    rows = []
    for old, new in _pairs(before, found):
        cells = [old.verdict if old.verdict == new.verdict else f"{old.verdict} -> {new.verdict}"]
        for name in ("insns", "states", "size"):
            was, now = _row(old)[name], _row(new)[name]
            growth = f" ({(now - was) / was:+.1%})" if was else ""
            cells.append(str(now) if was == now else f"{was} -> {now}{growth}")
        if any("->" in cell for cell in cells):
            rows.append([new.file, new.program, new.kernel, *cells])
    known = {(each.file, each.program) for each in before}
    fresh = [each for each in found if (each.file, each.program) not in known]
    rows += [[each.file, each.program, each.kernel, f"new: {each.verdict}", "", "", ""] for each in fresh]
    if not rows:
        typer.echo(f"{len(found)} programs, nothing changed")
        return
    columns = ["file", "program", "kernel", "verdict", "insns", "states", "size"]
    typer.echo("\n".join(aligned(columns, rows, terminal_width())))


def _worse(before: list[ProgramReport] | None, found: list[ProgramReport], most: float | None) -> list[str]:
    """What makes the exit status 1, as sentences."""
    failed = [each for each in found if _failed(each)]
    if before is None:
        return [each.program for each in failed]
    pairs = _pairs(before, found)
    known = {id(new) for old, new in pairs if _failed(old)}
    texts = [
        f"{each.program}: refused by Linux {each.kernel}: {each.error}" for each in failed if id(each) not in known
    ]
    for old, new in pairs:
        was, now = _row(old)["insns"], _row(new)["insns"]
        if most is not None and was and (now - was) / was * 100 > most:
            texts.append(
                f"{new.program}: Linux {new.kernel} walks through {now} instructions, {was} before: over {most:g} % more"
            )
    return texts
