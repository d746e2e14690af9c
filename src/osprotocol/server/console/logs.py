"""Pages of a run's log: the newest lines, or those of a level or with a text in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from osprotocol import _limits
from osprotocol._clock import from_datetime, to_iso
from osprotocol.engine import Engine
from osprotocol.protocol.events import LogLine

LINES_PER_PAGE = 500
LEVELS = ("debug", "info", "warning", "error", "critical")


@dataclass(frozen=True, slots=True)
class LogPage:
    """Lines of a log.

    Attributes:
        lines: oldest first.
        page, pages: from 1, which has the newest lines.
        found: how many lines there are under this filter; None when they were not counted.
        level, text: the filter.
    """

    lines: Sequence[LogLine]
    page: int
    pages: int
    found: int | None
    level: str
    text: str

    @property
    def newest(self) -> int:
        """Number of the last line; what comes later is new."""
        return self.lines[-1].number if self.lines else 0

    @property
    def is_filtered(self) -> bool:
        """Whether a level or a text was asked for."""
        return bool(self.level or self.text)


async def log_page(engine: Engine, run_id: str, *, level: str = "", text: str = "", page: int = 1) -> LogPage:
    """A page of a run's log.

    Args:
        engine: where the log is.
        run_id: the whole id.
        level: this one and what is worse; "" for all.
        text: part of the message, the step or the fields, in any case.
        page: from 1, which has the newest lines.
    """
    level = level if level in LEVELS else ""
    if not level and not text and page <= 1:
        newest = await engine.logs(run_id, 0, -(LINES_PER_PAGE + 1))
        if len(newest) <= LINES_PER_PAGE:
            return LogPage(newest, 1, 1, len(newest), level, text)
    lines = [line for line in await _all(engine, run_id) if _matches(line, level, text.casefold())]
    pages = max(1, -(-len(lines) // LINES_PER_PAGE))
    page = min(max(page, 1), pages)
    end = len(lines) - (page - 1) * LINES_PER_PAGE
    return LogPage(lines[max(0, end - LINES_PER_PAGE) : end], page, pages, len(lines), level, text)


async def lines_after(engine: Engine, run_id: str, after: int) -> LogPage:
    """The lines after a number, for those who follow."""
    lines = await engine.logs(run_id, after, LINES_PER_PAGE)
    return LogPage(lines, 1, 1, None, "", "")


async def _all(engine: Engine, run_id: str) -> list[LogLine]:
    """Every line that is kept of the run: at most LOG_LINES_PER_RUN."""
    lines: list[LogLine] = []
    while True:
        more = await engine.logs(run_id, lines[-1].number if lines else 0, 1_000)
        lines += more
        if len(more) < 1_000 or len(lines) > 2 * _limits.LOG_LINES_PER_RUN:
            return lines


def _matches(line: LogLine, level: str, text: str) -> bool:
    if level and LEVELS.index(level) > (LEVELS.index(line.level) if line.level in LEVELS else len(LEVELS)):
        return False
    return not text or text in f"{line.message} {line.step or ''} {fields_text(line)}".casefold()


def fields_text(line: LogLine) -> str:
    """The fields of a line in one line of text."""
    return " ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in line.fields.items()
    )


def log_text(line: LogLine) -> str:
    """A line of the downloaded file: one line without control sequences, whatever the message holds."""
    step = f" [{line.step}]" if line.step else ""
    fields = f" {fields_text(line)}" if line.fields else ""
    plain = f"{to_iso(from_datetime(line.at))} {line.level}{step} {line.message}{fields}"
    doubled = plain.replace("\\", "\\\\")
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in doubled)
