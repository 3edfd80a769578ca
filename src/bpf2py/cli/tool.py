"""`bpf2py tool`: ready-made tools."""

from __future__ import annotations

from bpf2py.cli import declared as typer

# Names of the commands, by the module that has them (tool_stacks ...).
HOMES = {
    "processes": ("execsnoop", "opensnoop", "exitsnoop", "killsnoop", "syscount", "filetop", "bashreadline"),
    "stacks": ("profile", "offcputime", "memleak"),
    "python": ("pyprofile", "pyoffcpu", "pyopens", "pyconnects", "pygc", "asyncio-block"),
    "cpu": ("runqlat", "cpudist", "biosnoop", "biolatency"),
    "network": ("tcplife", "tcpconnect", "tcptop", "tcpstates", "tcpretrans", "tcprtt", "dnssnoop"),
    "functions": ("funccount", "funclatency", "stackcount", "argdist"),
}
NAMES = tuple(name for names in HOMES.values() for name in names)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    tools = typer.Typer(
        help="Ready-made tools: what the machine, a process or a command does.\n\n"
        "They watch until Ctrl-C, for --duration seconds, or while COMMAND runs, and say at the end what they lost.",
        no_args_is_help=True,
    )
    for home, names in HOMES.items():
        for name in names:
            tools.later(name, f"tool_{home}:{name.replace('-', '_')}")
    app.add_typer(tools, name="tool")
