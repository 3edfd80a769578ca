"""`bpf2py map create`, `pin`, `freeze`, `peek` and `next`."""

from __future__ import annotations

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.cli import declared as typer
from bpf2py.cli.completion import complete_map
from bpf2py.cli.render import cell, to_json
from bpf2py.cli.values import open_map, parse
from bpf2py.errors import BpfError, KeyNotFound
from bpf2py.maps.base import Map
from bpf2py.uapi.map_types import MapFlags, type_name

if TYPE_CHECKING:
    import json
else:
    json = module("json")

MAP = typer.Argument(..., metavar="MAP", help="Id, name, or path of a pinned map.", autocompletion=complete_map)


def create(
    path: str = typer.Argument(..., help="Where to pin it, on a BPF file system; the map lives as long as the pin."),
    kind: str = typer.Option(..., "--type", metavar="TYPE", help="The map type, such as hash or lru_hash."),
    key: str = typer.Option(
        None, metavar="TYPE|BYTES", help="The size of keys: bytes, or a type such as u32 or char[16]."
    ),
    value: str = typer.Option(None, metavar="TYPE|BYTES", help="The size of values: bytes, or a type."),
    max_entries: int = typer.Option(0, min=0, help="Elements (bytes for rings)."),
    flags: str = typer.Option(
        "0", metavar="FLAGS", help="BPF_F_* flags: a number, or names such as no_prealloc with + between."
    ),
    name: str = typer.Option("", help="The map's name; 15 characters are kept. Default: the file's."),
) -> None:
    """Create a map and pin it. The kernel keeps the sizes of its keys and values; types come with programs.

    Examples:

        bpf2py map create /sys/fs/bpf/counts --type hash --key u32 --value u64 --max-entries 1024

        bpf2py map create /sys/fs/bpf/routes --type lpm_trie --key 8 --value u32 --max-entries 100 --flags no_prealloc
    """
    import os

    with Map.create(
        kind.upper(),
        key=_type(key),
        value=_type(value),
        max_entries=max_entries,
        flags=_flags(flags),
        name=name or os.path.basename(path),
        backend="kernel",
    ) as bpf_map:
        bpf_map.pin(path)


def _type(text: str | None) -> Any:
    return int(text) if text is not None and text.isdecimal() else text


def _flags(text: str) -> int:
    total = 0
    for word in text.split("+"):
        try:
            total |= int(word, 0) if word[:1].isdecimal() else int(MapFlags[word.upper()])
        except (KeyError, ValueError):
            names = ", ".join(flag.name.lower() for flag in MapFlags if flag.name is not None)
            raise BpfError(f"--flags {text}: {word!r} is not a number or one of {names}") from None
    return total


def pin(reference: str = MAP, path: str = typer.Argument(..., help="A new file on a BPF file system.")) -> None:
    """Pin a map, so that it lives on when its programs and processes are gone; remove the file to unpin it.

    Examples:

        bpf2py map pin exec_counts /sys/fs/bpf/exec_counts
    """
    with open_map(reference) as bpf_map:
        bpf_map.pin(path)


def freeze(reference: str = MAP) -> None:
    """Make a map read-only for user space, for good; programs may still write (Linux 5.2).

    Examples:

        bpf2py map freeze config
    """
    with open_map(reference) as bpf_map:
        bpf_map.freeze()


def peek(reference: str = MAP, as_json: bool = typer.Option(False, "--json", help="Print JSON, for programs.")) -> None:
    """Print the next value of a QUEUE or STACK, which stays. Exit status 1 when it is empty.

    Examples:

        bpf2py map peek requests
    """
    with open_map(reference) as bpf_map:
        if not hasattr(bpf_map, "peek"):
            raise BpfError(f"map {bpf_map.name}: peek is for QUEUE and STACK, this is a {type_name(bpf_map.info.type)}")
        value = bpf_map.peek()
        typer.echo(json.dumps(to_json(value)) if as_json else cell(value))


def next_key(
    reference: str = MAP,
    key: str = typer.Argument(None, metavar="[KEY]", help="A key, by its BTF type; the first key follows without one."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON, for programs."),
) -> None:
    """Print the key after a key, in the map's own order. Exit status 1 after the last one.

    A key that is not there is followed by the first one.

    Examples:

        bpf2py map next exec_counts

        bpf2py map next routes 10.0.0.0/8 --json
    """
    with open_map(reference) as bpf_map:
        if not bpf_map.key_size:
            raise BpfError(f"map {bpf_map.name}: it has no keys")
        slot: Any = bpf_map._slot()
        if key is not None:
            slot.key[:] = bpf_map.key_codec.encode(parse(bpf_map.key_codec, key, "key"))
        result = slot.get_next_key(key is None)
        if result == -2:
            raise KeyNotFound(f"map {bpf_map.name}: there are no more keys", errno=2, command="BPF_MAP_GET_NEXT_KEY")
        bpf_map._check("next", result)
        found = bpf_map.key_codec.decode(bytes(slot.next_key))
        typer.echo(json.dumps(to_json(found)) if as_json else cell(found))
