"""Drawings in SVG for the documentation: the logo, a recorded terminal, a flame graph.

They name no fonts or files from elsewhere. What is drawn on the page's own background follows the reader's colour scheme.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from bpf2py.symbols import Stacks
from bpf2py.symbols.tree import Node

MONO = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"
SANS = "system-ui,-apple-system,'Segoe UI',sans-serif"
AMBER, NAVY = "#f5b70a", "#14324f"
SCHEME = (
    "text{fill:#1b1f24}.faint{fill:#57606a}.grid{stroke:#d0d7de}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.faint{fill:#9da7b3}.grid{stroke:#3d444d}}"
)


def logo() -> str:
    """A snake in a cell of the comb: a hexagon with rounded corners, drawn by its thick border."""
    corners = [(32 + 24 * math.sin(math.pi * n / 3), 32 - 24 * math.cos(math.pi * n / 3)) for n in range(6)]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64" role="img"><title>bpf2py</title>'
        f'<polygon points="{points}" fill="{AMBER}" stroke="{AMBER}" stroke-width="9" stroke-linejoin="round"/>'
        '<path d="M42 21.5H28a5.3 5.3 0 0 0 0 10.6h8.5a5.3 5.3 0 0 1 0 10.6H21.5" fill="none" '
        f'stroke="{NAVY}" stroke-width="7" stroke-linecap="round"/>'
        f'<circle cx="42.3" cy="20.7" r="1.5" fill="{AMBER}"/></svg>\n'
    )


def terminal(title: str, rows: Sequence[tuple[str, str]], width: int = 80) -> str:
    """A terminal in which commands are typed and answered, once.

    Args:
        title: of the window.
        rows: (kind, text), where the kind is ``command`` (typed, letter by letter), ``note``, ``head``, ``output`` or ``pause``.
        width: in columns.
    """
    advance, step, left, top = 8.43, 19, 16, 56
    across, down = round(2 * left + advance * width), top + step * len(rows) + 4
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across} {down}" role="img" font-family="{MONO}" font-size="14">',
        f"<title>{escape(title)}</title>",
        "<style>.c{fill:#ffffff;font-weight:600}.p{fill:#4ade80;font-weight:600}.n{fill:#8b98a8}.h{fill:#7dd3fc}"
        ".o{fill:#d5dce5}.t{animation:show .01s both}@keyframes show{from{fill-opacity:0}to{fill-opacity:1}}"
        "@media(prefers-reduced-motion:reduce){.t{animation:none}}</style>",
        f'<rect width="{across}" height="{down}" rx="10" fill="#0f1b2a"/>',
        *(
            f'<circle cx="{20 + 20 * n}" cy="20" r="6" fill="{c}"/>'
            for n, c in enumerate(("#ff5f57", "#febc2e", "#28c840"))
        ),
        f'<text class="n" x="{across / 2:.0f}" y="25" text-anchor="middle">{escape(title)}</text>',
    ]
    now = 0.4
    for number, (kind, text) in enumerate(rows):
        place = f'x="{left}" y="{top + step * number}" xml:space="preserve"'
        if kind == "command":
            letters = f'<tspan class="p t" style="animation-delay:{now:.2f}s">$ </tspan>'
            for letter in text:
                letters += f'<tspan class="t" style="animation-delay:{now:.2f}s">{escape(letter)}</tspan>'
                now += 0.025
            parts.append(f'<text class="c" {place}>{letters}</text>')
            now += 0.5
        elif kind == "pause":
            now += 0.6
        elif text:
            extent = f' textLength="{advance * len(text):.1f}" lengthAdjust="spacingAndGlyphs"'
            parts.append(
                f'<text class="{kind[0]} t" style="animation-delay:{now:.2f}s" {place}{extent}>{escape(text)}</text>'
            )
            now += 0.04
    return "\n".join([*parts, "</svg>", ""])


def flame_graph(stacks: Stacks, title: str, width: int = 960, deepest: int = 9) -> str:
    """A flame graph as a picture: what `Stacks.save()` writes as a page to zoom and search in."""
    row, top, root = 22, 44, stacks.tree()
    height = top + row * deepest + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" font-family="{SANS}" font-size="12">',
        f"<title>{escape(title)}</title><style>{SCHEME}.f{{fill:#1b1f24}}</style>",
        f'<text x="4" y="24" font-size="16" font-weight="600">{escape(title)}</text>',
        f'<text class="faint" x="{width - 4}" y="24" text-anchor="end">{stacks.total} {stacks.unit}</text>',
    ]

    def draw(nodes: Iterable[Node], x: float, depth: int) -> None:
        for node in sorted(nodes, key=lambda node: node.name):
            extent = (width - 8) * node.value / root.value
            if extent >= 1 and depth < deepest:
                y, hue = height - 8 - row * (depth + 1), 28 + sum(map(ord, node.name)) % 24
                light = "72%" if "(" in node.name else "58%"  # Python's frames name their line
                parts.append(
                    f'<rect x="{x:.1f}" y="{y}" width="{max(extent - 1, 1):.1f}" height="{row - 1}" rx="2" '
                    f'fill="hsl({hue},90%,{light})"><title>{escape(node.name)}: {node.value}</title></rect>'
                )
                room = int((extent - 8) / 6.6)
                if room >= 4:
                    name = node.name if len(node.name) <= room else node.name[: room - 1] + "…"
                    parts.append(f'<text class="f" x="{x + 4:.1f}" y="{y + 15}">{escape(name)}</text>')
                draw(node.children.values(), x, depth + 1)
            x += extent

    draw(root.children.values(), 4, 0)
    return "\n".join([*parts, "</svg>", ""])
