"""The command line: one file per command, each with a `register(app)`; only the command that runs is imported."""

from __future__ import annotations

import io
import os
import sys
import warnings

from bpf2py._lazy import import_module
from bpf2py._typing import TYPE_CHECKING
from bpf2py.cli.declared import Exit, Typer, call, is_wrong_usage
from bpf2py.cli.overview import ABOUT, EXIT_STATUS, print_overview
from bpf2py.errors import BpfError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import typer

# Command -> the module that registers it, in the order --help lists them.
COMMANDS = {
    "run": "bpf2py.cli.run",
    "tool": "bpf2py.cli.tool",
    "examples": "bpf2py.cli.examples",
    "new": "bpf2py.cli.new",
    "doctor": "bpf2py.cli.doctor",
    "features": "bpf2py.cli.features",
    "gen": "bpf2py.cli.gen",
    "gen-c": "bpf2py.cli.gen_c",
    "vmlinux": "bpf2py.cli.vmlinux",
    "inspect": "bpf2py.cli.inspect",
    "verify": "bpf2py.cli.verify",
    "map": "bpf2py.cli.map",
    "events": "bpf2py.cli.map",
    "trace": "bpf2py.cli.trace",
    "prog": "bpf2py.cli.prog",
    "top": "bpf2py.cli.prog",
    "link": "bpf2py.cli.link",
    "net": "bpf2py.cli.net",
    "cgroup": "bpf2py.cli.net",
    "btf": "bpf2py.cli.btf",
    "struct_ops": "bpf2py.cli.btf",
    "packets": "bpf2py.cli.packets",
    "export": "bpf2py.cli.export",
    "record": "bpf2py.cli.record",
    "replay": "bpf2py.cli.record",
    "lru": "bpf2py.cli.lru",
}


# What an exception says that is raised where the engine would have done, and what the command line says.
_IN_PYTHON = '; or, to test without privileges, backend="engine"'
_IN_THE_SHELL = "; or, to test without privileges, --backend engine"


def declare(wanted: Sequence[str]) -> Typer:
    """The commands asked for, as they are declared."""
    commands = Typer()
    for home in dict.fromkeys(COMMANDS[name] for name in wanted):
        import_module(home).register(commands)
    return commands


def build(wanted: Sequence[str]) -> typer.Typer:
    """The application with the commands asked for."""
    import typer

    app = typer.Typer(
        name="bpf2py",
        help=ABOUT,
        epilog=f"{EXIT_STATUS} Of run: the command's.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    def show_version(asked: bool) -> None:
        if asked:
            typer.echo(f"bpf2py {_version()}")
            raise typer.Exit

    @app.callback()
    def options(
        version: bool = typer.Option(
            False, "--version", callback=show_version, is_eager=True, help="Print the version and exit."
        ),
    ) -> None:
        pass

    return declare(wanted).made(app, EXIT_STATUS)


def _version() -> str:
    from importlib.metadata import version

    return version("bpf2py")


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    _complain(f"warning: {message}")


def _complain(text: str) -> None:
    from bpf2py.cli.text import printable

    print(f"bpf2py: {printable(text, keep=chr(10) + chr(9))}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed (the reason on stderr), 2 wrong usage, 130 interrupted."""
    _prepare_streams()
    argv = list(sys.argv[1:] if arguments is None else arguments)
    warnings.showwarning = _show_warning
    try:
        try:
            _run(argv)
        finally:
            if arguments is None:
                _ends()
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exit as ended:
        sys.exit(ended.exit_code)
    except BrokenPipeError:  # whoever read our output has gone (| head)
        _discard_output()
        sys.exit(1)
    except BpfError as error:
        _complain(str(error).replace(_IN_PYTHON, _IN_THE_SHELL if argv[:1] == ["run"] else ""))
        sys.exit(1)
    except OSError as error:
        _discard_output()
        _complain(f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror or str(error))
        sys.exit(1)


def script() -> None:
    """The program `bpf2py`: `main`, and the end of its process.

    Taking the interpreter apart takes a tenth of the time of a command that lists something, and frees what the end of the process
    frees at once. It is left out where nobody waits for it.
    """
    status: object = 0
    try:
        main()
    except SystemExit as ended:
        status = ended.code or 0
    if isinstance(status, int) and _nobody_waits():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status & 0xFF)
    sys.exit(status)  # type: ignore[arg-type]  # whatever it was given


def _nobody_waits() -> bool:
    """Whether nothing would run before the interpreter's end: other threads, registered functions, profilers, checks for leaks."""
    registered: int = import_module("atexit")._ncallbacks()
    watched = sys.gettrace() is not None or sys.getprofile() is not None or sys.flags.dev_mode
    return not registered and not watched and "threading" not in sys.modules


def _ends() -> None:
    """There is nothing left to interrupt: one more Ctrl-C would only show where the interpreter was when it ended."""
    signal = import_module("_signal")  # what `signal` wraps in enumerations, which take longer than many a command
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:
        pass  # not in the main thread


def _run(argv: list[str]) -> None:
    if argv[:2] == ["map", "dump"] and "--json" in argv:
        from bpf2py.cli import json_dump

        reference = json_dump.quick(argv)
        if reference is not None:
            json_dump.run(reference)
            return
    if argv == ["--version"]:
        print(f"bpf2py {_version()}")
        return
    if argv in (["--help"], ["-h"]) and "_BPF2PY_COMPLETE" not in os.environ and print_overview():
        return
    wanted = argv[:1] if argv and argv[0] in COMMANDS else list(COMMANDS)
    if len(wanted) == 1 and "_BPF2PY_COMPLETE" not in os.environ:
        plain = call(declare(wanted), argv)
        if plain is not None:
            try:
                plain()
                return
            except Exception as error:
                if not is_wrong_usage(error):
                    raise
    build(wanted)(argv, prog_name="bpf2py")


def _prepare_streams() -> None:
    """Standard streams that can be written to, whatever the caller closed and whatever the terminal's encoding."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Else the next file to be opened, a map perhaps, would become the standard output.
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names may have letters the terminal's encoding lacks


def _discard_output() -> None:
    """Where the standard output cannot be written to, keep the interpreter from failing once more when it flushes."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
