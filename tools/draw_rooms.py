"""The rooms of the package as a picture: `python tools/draw_rooms.py` rewrites docs/contributing/rooms.svg."""

from __future__ import annotations

from html import escape
from pathlib import Path

PICTURE = Path(__file__).parent.parent / "docs" / "contributing" / "rooms.svg"

# Floors from the top: (heading, rooms as (name, what it holds)).
FLOORS = (
    ("what people run", (
        ("cli", "one file a command"), ("tools", "ready-made tools"), ("export", "metrics"), ("testing", "the pytest plugin"),
    )),
    ("programs made", (("lang", "programs in Python"), ("codegen", "typed modules"), ("lab", "experiments, LRU"))),
    ("the public API", (
        ("object, loading", "a spec loaded"), ("maps", "a file a family"), ("readers", "rings, perf buffers"),
        ("programs", "and their links"), ("backends", "chooses one"),
    )),
    ("two backends", (
        ("kernel", "bpf() and its hooks"), ("engine", "the same, in this process"), ("symbols", "names, stacks"),
    )),
    ("pure", (
        ("seam", "the contract"), ("spec", "an object file as data"), ("linker", "CO-RE, static linking"),
        ("toolchain", "compiler, headers"),
    )),
    ("facts", (
        ("uapi", "tables of kernel facts"), ("btf", "types, codecs"), ("isa", "instructions, helpers"), ("elf", "the file format"),
        ("errors", "the tree"),
    )),
)  # fmt: skip
WIDTH, HEIGHT, LEFT, GAP = 960, 92, 130, 12


def draw() -> str:
    """The picture; its colours follow the reader's scheme."""
    height = len(FLOORS) * HEIGHT + 8
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'font-family="system-ui, sans-serif" font-size="13">',
        "<title>Rooms of bpf2py by floor; each imports only from its own floor and those below</title>",
        "<style>text{fill:#1b1f24}.floor{fill:#57606a}.room{fill:#dbeafe;stroke:#60a5fa}.seam{fill:#fef3c7;stroke:#f59e0b}"
        ".small{font-size:11px;fill:#57606a}"
        "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.floor,.small{fill:#9da7b3}.room{fill:#1e3a5f;stroke:#3b82f6}"
        ".seam{fill:#4a3708;stroke:#f59e0b}}</style>",
    ]
    for row, (heading, rooms) in enumerate(FLOORS):
        top = row * HEIGHT + 8
        lines.append(f'<text class="floor" x="8" y="{top + 40}">{escape(heading)}</text>')
        width = (WIDTH - LEFT - 8 - GAP * (len(rooms) - 1)) / len(rooms)
        for column, (name, holds) in enumerate(rooms):
            x = LEFT + column * (width + GAP)
            kind = "seam" if name in ("seam", "backends") else "room"
            lines.append(
                f'<rect class="{kind}" x="{x:.0f}" y="{top}" width="{width:.0f}" height="{HEIGHT - 20}" rx="6"/>'
            )
            lines.append(f'<text x="{x + 10:.0f}" y="{top + 30}" font-weight="600">{escape(name)}</text>')
            lines.append(f'<text class="small" x="{x + 10:.0f}" y="{top + 50}">{escape(holds)}</text>')
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(draw())
