"""The geometry of a run's waterfall: where each bar lies, in per cent of the width. Pure.

Hours of waiting would leave no room for seconds of work, so stretches in which nothing worked can be folded: they get
a fixed width, with a mark where time is cut out.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from osprotocol.server.console.timeline import Bar, Span, Timeline
from osprotocol.server.console.words import duration, rough

ROWS_PER_PAGE = 100
_FOLDED = 12.0
_FOLDS = 5
_IDLE_SHARE = 0.6
_LEAST_WIDTH = 0.35
_WORTH_SEEING = timedelta(seconds=1)
_WORTH_SHARE = 0.05
_MANY_TICKS = 6


@dataclass(frozen=True, slots=True)
class Piece:
    """A rectangle of a row, or a band behind all rows; `left` and `width` are per cent.

    Attributes:
        style: ``work``, ``delay``, ``wait``, ``sleep``, ``child``, ``pause``, ``attempt``, ``fold``.
        words: what it says to those who do not see it.
    """

    left: float
    width: float
    style: str
    words: str = ""

    @property
    def right(self) -> float:
        """Where it ends."""
        return self.left + self.width

    @property
    def middle(self) -> float:
        """Where a mark on it stands."""
        return self.left + self.width / 2


@dataclass(frozen=True, slots=True)
class Row:
    """One bar with its pieces."""

    bar: Bar
    pieces: tuple[Piece, ...]
    ticks: tuple[float, ...]
    length: timedelta
    is_live: bool


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark of the axis."""

    left: float
    words: str
    align: Literal["start", "middle", "end"]


@dataclass(frozen=True, slots=True)
class Waterfall:
    """One page of it.

    Attributes:
        first, total: number of the first row on this page, from 1, and of all rows.
        page, pages: from 1.
        folds: stretches of time that are cut short.
        can_fold: whether folding would change anything.
    """

    rows: tuple[Row, ...]
    attempts: tuple[Piece, ...]
    pauses: tuple[Piece, ...]
    folds: tuple[Piece, ...]
    ticks: tuple[Tick, ...]
    first: int
    total: int
    page: int
    pages: int
    can_fold: bool

    @property
    def last(self) -> int:
        """Number of the last row on this page."""
        return self.first + len(self.rows) - 1


class Scale:
    """From instants to per cent: straight, or with folded stretches."""

    def __init__(self, start: datetime, end: datetime, folds: Sequence[tuple[datetime, datetime]] = ()) -> None:
        self._start = start
        self._marks: list[float] = [0.0]
        self._places: list[float] = [0.0]
        whole = max((end - start).total_seconds(), 0.001)
        cut = [((a - start).total_seconds(), (b - start).total_seconds()) for a, b in folds]
        worked = max(whole - sum(b - a for a, b in cut), 0.001)
        share = (100.0 - _FOLDED * len(cut)) / worked
        at = place = 0.0
        for began, over in [*cut, (whole, whole)]:
            place += (began - at) * share
            self._add(began, place)
            if over > began:
                place += _FOLDED
                self._add(over, place)
            at = over
        self._places[-1] = 100.0

    def _add(self, mark: float, place: float) -> None:
        if mark > self._marks[-1]:
            self._marks.append(mark)
            self._places.append(place)

    def at(self, moment: datetime) -> float:
        """Where an instant lies; what is outside lies at the border."""
        second = (moment - self._start).total_seconds()
        number = bisect_right(self._marks, second)
        if number == 0:
            return 0.0
        if number == len(self._marks):
            return 100.0
        before, after = self._marks[number - 1], self._marks[number]
        left, right = self._places[number - 1], self._places[number]
        return round(left + (right - left) * (second - before) / (after - before), 3)

    def piece(self, start: datetime, end: datetime, style: str, words: str = "") -> Piece:
        """A rectangle from one instant to another; never too thin to be seen."""
        left = min(self.at(start), 100.0 - _LEAST_WIDTH)
        return Piece(left, round(max(self.at(end) - left, _LEAST_WIDTH), 3), style, words)


def idle_stretches(timeline: Timeline, start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """The longest stretches in which no step worked, in order; none when they leave enough room for the work."""
    busy: list[tuple[datetime, datetime]] = [(start, start)]
    for bar in timeline.bars:
        if bar.kind == "step":
            busy.append((bar.last_try_at or bar.started_at, bar.ended_at or end))
            busy += [(failed, failed) for failed in bar.failures]
        else:
            busy += [(bar.started_at, bar.started_at), (bar.ended_at or end, bar.ended_at or end)]
    for span in (*timeline.attempts, *timeline.pauses):
        busy += [(span.started_at, span.started_at), (span.ended_at or end, span.ended_at or end)]
    busy.append((end, end))
    whole, gaps, reached = end - start, [], start
    for began, over in sorted(stretch for stretch in busy if stretch[0] <= end):
        if began > reached:
            gaps.append((reached, began))
        reached = max(reached, over)
    worth = [gap for gap in gaps if gap[1] - gap[0] > whole * 0.15 and gap[1] - gap[0] > timedelta(seconds=2)]
    chosen = sorted(sorted(worth, key=lambda gap: gap[0] - gap[1])[:_FOLDS])
    idle = sum(((over - began) for began, over in chosen), timedelta(0))
    return chosen if idle > whole * _IDLE_SHARE else []


def waterfall(
    timeline: Timeline,
    now: datetime,
    *,
    page: int | None = None,
    selected: Bar | None = None,
    folded: bool | None = None,
    rows_per_page: int = ROWS_PER_PAGE,
) -> Waterfall:
    """A page of a run's waterfall.

    Args:
        timeline: what happened.
        now: where bars end that go on.
        page: which page; without one the page of the selected bar, else of a living run the last.
        selected: the bar whose details are shown.
        folded: whether long stretches without work are cut short; None: when enough remains to be looked at, since
            milliseconds that are drawn as wide as minutes look like long work.
        rows_per_page: at most so many.
    """
    created = timeline.created_at or now
    end = max(timeline.ended_at or now, timeline.latest_at or created, created + timedelta(milliseconds=1))
    bars = timeline.rows()
    pages = max(1, -(-len(bars) // rows_per_page))
    if page is None:
        number = bars.index(selected) if selected is not None else len(bars) - 1 if timeline.ended_at is None else 0
        page = max(0, number) // rows_per_page + 1
    page = min(max(page, 1), pages)
    first = (page - 1) * rows_per_page
    shown = bars[first : first + rows_per_page]
    start, until = created, end
    if pages > 1:
        # The page is a part of the rows and shows its part of the time.
        start = shown[0].started_at
        until = max(start + timedelta(milliseconds=1), *(bar.ended_at or end for bar in shown))
    folds = idle_stretches(timeline, start, until)
    if folded is None:
        remains = until - start - sum((over - began for began, over in folds), timedelta(0))
        folded = remains >= min(_WORTH_SEEING, (until - start) * _WORTH_SHARE)
    scale = Scale(start, until, folds if folded else ())
    return Waterfall(
        rows=tuple(_row(bar, scale, end) for bar in shown),
        attempts=tuple(_attempt(span, scale, end) for span in timeline.attempts if _touches(span, start, until, end)),
        pauses=tuple(_pause(span, scale, end) for span in timeline.pauses if _touches(span, start, until, end)),
        folds=tuple(_fold(gap, scale) for gap in folds) if folded else (),
        ticks=_ticks(scale, created, start, until, folds if folded else []),
        first=first + 1,
        total=len(bars),
        page=page,
        pages=pages,
        can_fold=bool(folds),
    )


def _touches(span: Span, start: datetime, until: datetime, end: datetime) -> bool:
    return span.started_at <= until and (span.ended_at or end) >= start


def _row(bar: Bar, scale: Scale, end: datetime) -> Row:
    over = bar.ended_at or end
    pieces = []
    if bar.kind == "step" and bar.failures:
        last = bar.last_try_at or bar.failures[-1]
        pieces.append(scale.piece(bar.started_at, last, "delay", "tries before"))
        if bar.last_try_at is not None:
            pieces.append(scale.piece(last, over, _style(bar)))
    else:
        pieces.append(scale.piece(bar.started_at, over, _style(bar)))
    ticks = tuple(scale.at(failed) for failed in bar.failures)
    return Row(bar, tuple(pieces), ticks, max(timedelta(0), over - bar.started_at), bar.ended_at is None)


def _style(bar: Bar) -> str:
    if bar.is_human:
        return "wait"
    return bar.kind if bar.kind in ("sleep", "child") else "work"


def _attempt(span: Span, scale: Scale, end: datetime) -> Piece:
    return scale.piece(span.started_at, span.ended_at or end, "attempt", f"Attempt {span.name}")


def _pause(span: Span, scale: Scale, end: datetime) -> Piece:
    length = duration(span.length(end))
    return scale.piece(span.started_at, span.ended_at or end, "pause", f"Paused by {span.name} for {length}")


def _fold(gap: tuple[datetime, datetime], scale: Scale) -> Piece:
    return scale.piece(gap[0], gap[1], "fold", rough(gap[1] - gap[0]))


def _offset(offset: timedelta, shown: timedelta) -> str:
    """Time since the run was accepted, as exactly as the part that is shown needs."""
    seconds = max(0.0, offset.total_seconds())
    if not seconds:
        return "0"
    if seconds < 1 or shown >= timedelta(seconds=10) or seconds >= 600:
        return duration(offset)
    digits = 1 if shown >= timedelta(seconds=2) else 2 if shown >= timedelta(milliseconds=200) else 3
    return f"{seconds:.{digits}f} s"


def _ticks(
    scale: Scale, created: datetime, start: datetime, end: datetime, folds: Sequence[tuple[datetime, datetime]]
) -> tuple[Tick, ...]:
    """Marks of time since the run was accepted: evenly, or with folds where those begin and end."""
    moments = [start, end]
    if folds:
        moments += [moment for gap in folds for moment in gap]
    else:
        moments += [start + (end - start) * part / 4 for part in (1, 2, 3)]
    ticks: list[Tick] = []
    for moment in sorted(set(moments)):
        left = scale.at(moment)
        is_last = moment == end
        if ticks and left - ticks[-1].left < 100 / (_MANY_TICKS * 2):
            if not is_last:
                continue
            if len(ticks) > 1:
                ticks.pop()
        align: Literal["start", "middle", "end"] = "end" if is_last else "middle" if ticks else "start"
        ticks.append(Tick(left, _offset(moment - created, end - start), align))
    return tuple(ticks)
