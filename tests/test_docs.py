"""What the pages under docs/ show is what happens: their code runs, and what it prints is compared.

Of each page, in a directory of its own: blocks with a title become files, Python blocks run in order in one namespace, and of
console blocks the lines that start with ``$`` and one of `COMMANDS` run in a shell. What follows a command in its block, or a
Python block as a text block, is the expected output; ``...`` stands for anything. An HTML comment ``<!-- not run: why -->`` before
a block excludes it. Pages run on the engine; ``<!-- kernel -->`` in the first line of a page makes it one that needs the kernel,
``<!-- kprobe -->`` one that needs kprobes or trampolines as well.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import bpf2py
import bpf2py.errors
import bpf2py.loading
from bpf2py import lang

DOCS = Path(__file__).parent.parent / "docs"
COMMANDS = ("bpf2py", "pytest", "python", "make")
FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>.+?) -->\n)?^```(?P<language>\w+)(?P<attributes>[^\n]*)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
MARKS = {"<!-- kernel -->": [pytest.mark.kernel], "<!-- kprobe -->": [pytest.mark.kernel, pytest.mark.kprobe]}
CHECKER = doctest.OutputChecker()
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    title: str
    body: str
    line: int
    reason: str | None

    @property
    def directly_run(self) -> bool:
        return self.reason is None and not self.title


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    text = page.read_text()
    found = []
    for match in FENCE.finditer(text):
        title = re.search(r'title="([^"]*)"', match["attributes"])
        line = text.count("\n", 0, match.start("body")) + 1
        name = title[1] if title is not None else ""
        found.append(Block(match["language"], name, match["body"], line, match["reason"]))
    return found


def pages() -> list[Any]:
    """Every page that has something to run."""
    found = []
    for page in sorted(DOCS.rglob("*.md")):
        if any(block.language in ("python", "console", "c") for block in blocks(page)):
            marks = MARKS.get(page.read_text().partition("\n")[0], [])
            found.append(pytest.param(page, id=str(page.relative_to(DOCS)), marks=marks))
    return found


def compare(where: str, expected: str, actual: str) -> None:
    """Fail unless the output is as shown."""
    if not CHECKER.check_output(expected, actual, OPTIONS):
        pytest.fail(f"{where}: expected\n{expected}\nbut it is\n{actual}", pytrace=False)


def run_python(where: str, block: Block, namespace: dict[str, Any], page: Path) -> str:
    """What a Python block prints."""
    code = compile("\n" * (block.line - 1) + block.body, str(page), "exec")
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            exec(code, namespace)
    except Exception as error:
        raise AssertionError(f"{where}: {type(error).__name__}: {error}") from error
    return output.getvalue()


def run_console(where: str, block: Block, directory: Path) -> None:
    """Run the commands of a console block and compare what they print."""
    for part in re.split(r"^\$ ", block.body, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        while command.endswith("\\"):
            more, _, expected = expected.partition("\n")
            command += "\n" + more
        if next(word for word in command.split() if "=" not in word) not in COMMANDS:
            continue
        done = subprocess.run(
            ["sh", "-c", command], cwd=directory, text=True, check=False, timeout=100, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0 or "echo $?" in command, f"{where}: $ {command}\n{done.stdout}"
        if expected.strip():
            compare(f"{where}: $ {command}", expected, done.stdout)


@pytest.mark.parametrize("page", pages())
def test_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    on_kernel = request.node.get_closest_marker("kernel") is not None
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BPF2PY_BACKEND", "kernel" if on_kernel else "engine")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setattr(bpf2py.backends, "_engine", None)
    monkeypatch.syspath_prepend(str(tmp_path))
    here = blocks(page)
    for block in here:
        if block.title and block.reason is None:
            (tmp_path / block.title).write_text(block.body)
    try:
        run_page(page, here, tmp_path)
    finally:
        for name, module in list(sys.modules.items()):
            if (getattr(module, "__file__", None) or "").startswith(f"{tmp_path}{os.sep}"):
                del sys.modules[name]  # generated modules of other pages have the same names


def run_page(page: Path, here: list[Block], directory: Path) -> None:
    """Run the blocks of a page in order."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    output = None
    for block in here:
        where = f"{page.relative_to(DOCS.parent)}:{block.line}"
        if block.language == "text" and output is not None:
            compare(where, block.body, output)
        output = None
        if block.language == "python" and block.directly_run:
            output = run_python(where, block, namespace, page)
        elif block.language == "console" and block.directly_run:
            run_console(where, block, directory)


def test_there_are_pages() -> None:
    assert len(pages()) >= 20
    assert sum(block.language == "python" for page in DOCS.rglob("*.md") for block in blocks(page)) >= 50


def test_every_page_is_in_the_navigation() -> None:
    navigation = (DOCS.parent / "mkdocs.yml").read_text()
    assert [str(p) for p in DOCS.rglob("*.md") if str(p.relative_to(DOCS)) not in navigation] == []


def test_links_lead_somewhere() -> None:
    broken = []
    for page in DOCS.rglob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+\.md)(?:#[^)]*)?\)", page.read_text()):
            if not (page.parent / target).exists():
                broken.append(f"{page.relative_to(DOCS)}: {target}")
    assert broken == []


# What only type checkers and the language itself need of it.
NOT_FOR_PROGRAMS = {"MapDef", "ProgramDef", "Hook", "Ksym", "inline"}


def reference() -> tuple[str, set[str]]:
    """The text of the reference pages, and the names that mkdocstrings writes of: whole modules by what they export."""
    text = "".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    objects = re.findall(r"^::: bpf2py((?:\.\w+)*)$", text, re.MULTILINE)
    documented = {name.rpartition(".")[2] for name in objects}
    for name in objects:
        if name.lstrip(".") in ("errors", "features", "maps.fd_values"):
            documented |= set(vars(importlib.import_module(f"bpf2py{name}")))
    return text, documented


@pytest.mark.parametrize(
    "module", ["", ".maps", ".readers", ".values", ".features", ".errors", ".engine", ".testing", ".symbols"]
)
def test_every_public_name_is_in_the_reference(module: str) -> None:
    text, documented = reference()
    names = set(getattr(importlib.import_module(f"bpf2py{module}"), "__all__", ()))
    assert {name for name in names - documented if f"`bpf2py{module}.{name}`" not in text} == set()


def test_every_name_of_the_language_is_in_the_reference() -> None:
    words = {
        word
        for page in ("python", "python-names")
        for word in re.findall(r"\w+", (DOCS / "reference" / f"{page}.md").read_text())
    }
    assert set(vars(lang)["__all__"]) - NOT_FOR_PROGRAMS - words == set()


@pytest.mark.parametrize("tool", ["cli_reference.py", "attach_options.py", "pictures.py"])
def test_generated_references_are_fresh(tool: str) -> None:
    done = subprocess.run(
        [sys.executable, DOCS.parent / "tools" / tool, "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_command_has_an_example_and_an_exit_status() -> None:
    text = (DOCS / "reference" / "cli.md").read_text()
    for name, rest in re.findall(r"^#+ (bpf2py .+)\n\n```text((?s:.*?))(?=^#|\Z)", text, re.MULTILINE):
        assert f"\nExamples:\n\n```sh\n{name}" in rest, name
        assert "\nExit status: " in rest, name


def test_output_that_differs_is_found() -> None:
    with pytest.raises(pytest.fail.Exception, match="but it is"):
        compare("here", "1 2\n", "1 3\n")
    compare("here", "1  ...\n", "1 3\n")
