"""The tables, as Markdown that also reads well in a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from suite.contenders import FLOOR, OURS, PEERS
from suite.figures import FIGURES, Figure, Medians

ABSENT = "–"
MOST_DIGITS = 5
UNCOMPARED = frozenset({"fleet_runs", "import_pydantic_s"})
"""Figures whose ratio says nothing."""


def figures_table(medians: Medians, contenders: Sequence[str]) -> str:
    """The median of every figure."""
    rows = [
        [figure.label, *(_number(medians.get(name, {}).get(figure.name)) for name in contenders)]
        for figure in FIGURES
        if any(figure.name in medians.get(name, {}) for name in contenders)
    ]
    return _table(["median of the rounds", *contenders], rows)


def floor_table(medians: Medians, contenders: Sequence[str]) -> str:
    """Every figure as a multiple of the floor's, and whether our targets are met."""
    others = [name for name in contenders if name != FLOOR]
    rows = []
    for figure in _comparable(medians, contenders):
        floor = medians.get(FLOOR, {}).get(figure.name)
        ratios = [_ratio(medians.get(name, {}).get(figure.name), floor) for name in others]
        rows.append([figure.label, *ratios, *_target(figure, medians)])
    return _table([f"multiple of {FLOOR}", *others, "target", "met"], rows)


def peers_table(medians: Medians, contenders: Sequence[str]) -> str:
    """How many times better we are than each peer: above 1 we are ahead, whichever way the figure goes."""
    peers = [name for name in contenders if name in PEERS]
    rows = []
    for figure in _comparable(medians, contenders):
        ours = medians.get(OURS, {}).get(figure.name)
        theirs = [medians.get(name, {}).get(figure.name) for name in peers]
        better = [_ratio(ours, t) if figure.more_is_better else _ratio(t, ours) for t in theirs]
        rows.append([figure.label, *better])
    return _table([f"times better {OURS} is than", *peers], rows)


def tables(medians: Medians, contenders: Sequence[str]) -> str:
    """All tables that these contenders allow."""
    parts = [figures_table(medians, contenders)]
    if FLOOR in contenders and len(contenders) > 1:
        parts.append(floor_table(medians, contenders))
    if OURS in contenders and any(name in PEERS for name in contenders):
        parts.append(peers_table(medians, contenders))
    return "\n\n".join(parts)


def _comparable(medians: Medians, contenders: Sequence[str]) -> list[Figure]:
    return [
        figure
        for figure in FIGURES
        if figure.name not in UNCOMPARED and any(figure.name in medians.get(name, {}) for name in contenders)
    ]


def _target(figure: Figure, medians: Medians) -> tuple[str, str]:
    if figure.target is None:
        return "", ""
    limit = figure.target.limit(medians)
    ours = medians.get(OURS, {}).get(figure.name)
    if limit is None or ours is None:
        return figure.target.text, ""
    met = ours >= limit if figure.more_is_better else ours <= limit
    return figure.target.text, "yes" if met else "no"


def _ratio(value: float | None, reference: float | None) -> str:
    return ABSENT if value is None or reference is None or reference <= 0 else _number(value / reference)


def _number(value: float | None) -> str:
    """Three significant digits, without an exponent."""
    if value is None:
        return ABSENT
    size = abs(value)
    digits = 0 if size == 0 else max(0, 2 - math.floor(math.log10(size)))
    return f"{value:,.{min(digits, MOST_DIGITS)}f}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = [head, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])], *rows]
    return "\n".join("| " + " | ".join(_cells(line, widths)) + " |" for line in lines)


def _cells(line: list[str], widths: list[int]) -> list[str]:
    return [
        line[0].ljust(widths[0]),
        *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
    ]
