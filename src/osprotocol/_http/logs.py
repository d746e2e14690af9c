"""The newest log lines of the runs that this process deals with, as far as a server told them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from osprotocol import _limits
from osprotocol.protocol.events import LogLine

# Runs whose lines are kept; the one not dealt with for the longest time is forgotten first.
_RUNS = 200


class RecentLogs:
    """What `execution.logs` gives."""

    def __init__(self) -> None:
        self._lines_by_run: OrderedDict[str, dict[int, str]] = OrderedDict()

    def add(self, run_id: str, lines: Iterable[LogLine]) -> None:
        """Keep lines that came, in whatever order."""
        known = self._lines_by_run.setdefault(run_id, {})
        self._lines_by_run.move_to_end(run_id)
        known.update((line.number, line.message) for line in lines)
        for number in sorted(known)[: -_limits.LOG_LINES_IN_MEMORY]:
            del known[number]
        while len(self._lines_by_run) > _RUNS:
            self._lines_by_run.popitem(last=False)

    def last(self, run_id: str) -> int:
        """Number of the newest line that is known; 0 when none is."""
        return max(self._lines_by_run.get(run_id, {}), default=0)

    def newest(self, run_id: str) -> list[str]:
        """The newest lines, oldest first."""
        known = self._lines_by_run.get(run_id, {})
        return [known[number] for number in sorted(known)]
