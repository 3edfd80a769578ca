"""A picture of hit rates by size: SVG, without a library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import log10

__all__ = ["hit_rates"]

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 720, 400, 56, 44, 40, 24
COLOURS = ("#2f6fde", "#d9822b", "#1a9c6b", "#b23bc4", "#c0392b", "#6b7a8f", "#0097a7", "#8d6e63")


def hit_rates(lines: Mapping[str, Sequence[tuple[int, float]]], title: str, ideal: str = "exact LRU") -> str:
    """An SVG picture: for each name its (max_entries, share of hits) as a line; the one named `ideal` is dashed.

    Sizes are on a logarithmic axis. Colours are readable on light and dark pages.
    """
    sizes = sorted({size for points in lines.values() for size, _ in points})
    low, high = log10(max(sizes[0], 1)), log10(max(sizes[-1], 2))
    span = max(high - low, 1e-9)
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM - 18 * ((len(lines) + 2) // 3)

    def x(size: int) -> float:
        return LEFT + inner_width * (log10(max(size, 1)) - low) / span

    def y(rate: float) -> float:
        return TOP + inner_height * (1 - rate)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-label="{escape(title)}" font-family="system-ui, sans-serif" font-size="12" fill="#7a7f87">',
        f'<text x="{LEFT}" y="22" font-size="15" font-weight="600">{escape(title)}</text>',
    ]
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(share):.1f}" y2="{y(share):.1f}" stroke="#8888" stroke-width="0.5"/>'
            f'<text x="{LEFT - 8}" y="{y(share) + 4:.1f}" text-anchor="end">{share:.0%}</text>'
        )
    for size in _ticks(sizes[0], sizes[-1]):
        parts.append(f'<text x="{x(size):.1f}" y="{TOP + inner_height + 18}" text-anchor="middle">{size:,}</text>')
    parts.append(
        f'<text x="{LEFT + inner_width / 2}" y="{TOP + inner_height + 34}" text-anchor="middle">max_entries</text>'
    )
    for number, (name, points) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        dashes = ' stroke-dasharray="5 4"' if name == ideal else ""
        path = " ".join(f"{x(size):.1f},{y(rate):.1f}" for size, rate in sorted(points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>')
        at_x, at_y = LEFT + number % 3 * inner_width // 3, TOP + inner_height + 54 + 18 * (number // 3)
        parts.append(
            f'<line x1="{at_x}" x2="{at_x + 18}" y1="{at_y - 4}" y2="{at_y - 4}" stroke="{colour}" stroke-width="2"{dashes}/>'
            f'<text x="{at_x + 24}" y="{at_y}">{escape(name)}</text>'
        )
    return "".join([*parts, "</svg>\n"])


def _ticks(low: int, high: int) -> list[int]:
    found = [step * 10**power for power in range(9) for step in (1, 2, 5)]
    shown = [size for size in found if low <= size <= high]
    return shown if len(shown) <= 8 else [size for size in shown if str(size)[0] == "1"]
