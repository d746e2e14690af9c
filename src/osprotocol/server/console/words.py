"""How the console says times, lengths and numbers. Pure; the script in the browser says them in the same way."""

from __future__ import annotations

from datetime import datetime, timedelta

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
NEARLY = 0.04
"""Of a unit: what is in so much less than three days is in three days."""


def duration(length: timedelta | int | float | None) -> str:
    """A length of time in its two largest units: ``420 ms``, ``2.4 s``, ``3 h 20 min``; a number is milliseconds."""
    if length is None:
        return ""
    milliseconds = length.total_seconds() * 1_000 if isinstance(length, timedelta) else float(length)
    if milliseconds < 999.5:
        return f"{max(0, round(milliseconds))} ms"
    if milliseconds < 9_950:
        return f"{milliseconds / 1_000:.1f} s"
    left = round(milliseconds / 1_000)
    parts: list[tuple[int, str]] = []
    for name, size in _UNITS:
        if left >= size or parts:
            parts.append((left // size, name))
            left %= size
    return " ".join(f"{number} {name}" for number, name in parts[:2] if number)


def rough(length: timedelta, nearly: float = 0.0) -> str:
    """A length of time in its largest unit, as people say it: ``3 h``; `nearly` is what may be missing of a unit."""
    seconds = max(0.0, length.total_seconds())
    for name, size in _UNITS:
        number = int(seconds / size + nearly)
        if number:
            return f"{number} {name}"
    return "0 s"


def ago(moment: datetime | None, now: datetime) -> str:
    """How long ago, or in how long: ``just now``, ``3 min ago``, ``in 2 h``."""
    if moment is None:
        return ""
    length = now - moment
    if timedelta(seconds=-5) < length < timedelta(seconds=5):
        return "just now"
    return f"in {rough(-length, NEARLY)}" if length < timedelta(0) else f"{rough(length)} ago"


def count(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun: ``1 run``, ``1,204 runs``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(names: list[str] | tuple[str, ...], most: int = 3) -> str:
    """Names in a sentence: ``Ada, Ben and 4 more``."""
    if len(names) <= 1:
        return "".join(names)
    if len(names) <= most:
        return f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
