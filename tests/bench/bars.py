"""A picture of figures as an SVG file: groups of bars over a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from xml.sax.saxutils import escape

COLOURS = ("#4c78a8", "#f58518", "#e45756", "#72b7b2", "#54a24b")
LEFT, TOP, WIDTH, HEIGHT, FOOT = 60, 40, 640, 260, 60


def draw(title: str, groups: Sequence[str], bars: Mapping[str, Sequence[float]]) -> str:
    """`bars`: for each column of the legend one value above 0 for each group."""
    values = [max(value, 1e-3) for each in bars.values() for value in each]
    low = math.floor(math.log10(min(values)))
    high = max(low + 1, math.ceil(math.log10(max(values))))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 20}"'
        f' height="{TOP + HEIGHT + FOOT}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{escape(title)}</text>',
        *_scale(low, high),
        *_groups(groups, bars, low, high),
        *_legend(bars),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _y(value: float, low: int, high: int) -> float:
    share = (math.log10(max(value, 1e-3)) - low) / (high - low)
    return TOP + HEIGHT * (1 - share)


def _scale(low: int, high: int) -> Iterator[str]:
    for power in range(low, high + 1):
        y = _y(10.0**power, low, high)
        yield f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y}" y2="{y}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{10.0**power:g}</text>'


def _groups(
    groups: Sequence[str], bars: Mapping[str, Sequence[float]], low: int, high: int
) -> Iterator[str]:
    room = WIDTH / len(groups)
    wide = room * 0.8 / len(bars)
    for i, group in enumerate(groups):
        x = LEFT + i * room
        yield (
            f'<text x="{x + room / 2}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{group}</text>'
        )
        for k, values in enumerate(bars.values()):
            left, y = x + room * 0.1 + k * wide, _y(values[i], low, high)
            yield (
                f'<rect x="{left:.1f}" y="{y:.1f}" width="{wide * 0.9:.1f}"'
                f' height="{TOP + HEIGHT - y:.1f}" fill="{COLOURS[k]}"/>'
            )
            yield (
                f'<text x="{left + wide / 2:.1f}" y="{y - 3:.1f}" text-anchor="middle"'
                f' font-size="10">{values[i]:.3g}</text>'
            )


def _legend(bars: Mapping[str, Sequence[float]]) -> Iterator[str]:
    for k, name in enumerate(bars):
        x, y = LEFT + k * WIDTH / len(bars), TOP + HEIGHT + 40
        yield f'<rect x="{x}" y="{y - 10}" width="10" height="10" fill="{COLOURS[k]}"/>'
        yield f'<text x="{x + 15}" y="{y}">{escape(name)}</text>'
