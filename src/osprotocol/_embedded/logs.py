"""Runs' logs: lines from the context, from steps and from the standard `logging` module, bounded per run."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from osprotocol import _limits
from osprotocol._clock import Clock
from osprotocol._embedded.store import Operation, Store
from osprotocol._embedded.transaction import LogRow, Transaction
from osprotocol._embedded.writer import Writer
from osprotocol._json import encode, find_problem
from osprotocol.context import running_step

if TYPE_CHECKING:
    from osprotocol._embedded.attempt import Attempt

executing_attempt: ContextVar[Attempt | None] = ContextVar("executing_attempt", default=None)

_ROUND_S = 0.02
_LINES_PER_COMMIT = 2_000


class RunLogs:
    """Collects lines and stores them a few times a second, so that a flood of lines never delays a step."""

    def __init__(self, store: Store, writer: Writer, clock: Clock, listen: Callable[[list[LogRow]], None]) -> None:
        self._store = store
        self._writer = writer
        self._clock = clock
        self._listen = listen
        self._waiting: list[LogRow] = []
        self._lines: dict[int, int] = {}
        self._scheduled = False

    def add(
        self, run: int, run_id: str, attempt: int, level: str, message: str, step: str | None, fields: dict[str, Any]
    ) -> None:
        """Add a line; beyond LOG_LINES_PER_RUN one line says so and the rest is dropped."""
        written = self._lines.get(run)
        if written is None:
            written = int(self._store.rows("count_logs", (run,))[0][0])
        if written > _limits.LOG_LINES_PER_RUN:
            return
        self._lines[run] = written + 1
        if len(self._lines) > 10_000:
            self._lines.pop(next(iter(self._lines)))
        if written == _limits.LOG_LINES_PER_RUN:
            level, fields = "warning", {}
            message = (
                f"log of run {run_id} is full (LOG_LINES_PER_RUN = {_limits.LOG_LINES_PER_RUN}); the rest is dropped"
            )
        text = (
            message.encode("utf-8", "replace")[: _limits.LOG_LINE_BYTES].decode("utf-8", "ignore").replace("\x00", "␀")
        )
        row = LogRow(run, self._clock.now(), level, text, attempt, step, _fields_text(fields))
        self._waiting.append(row)
        if not self._scheduled:
            self._scheduled = True
            import asyncio

            asyncio.get_running_loop().call_later(_ROUND_S, self.flush)

    def flush(self) -> None:
        """Store what has been collected."""
        self._scheduled = False
        while self._waiting:
            rows, self._waiting = self._waiting[:_LINES_PER_COMMIT], self._waiting[_LINES_PER_COMMIT:]
            self._put(rows)

    def _put(self, rows: list[LogRow]) -> None:
        def write(transaction: Transaction) -> None:
            for row in rows:
                transaction.log(row)

        def written(operation: Operation) -> None:
            if operation.error is None:
                self._listen(rows)

        self._writer.put(Operation(write, written))


def _fields_text(fields: dict[str, Any]) -> str | None:
    if not fields:
        return None
    plain = {name: value if find_problem(value) is None else repr(value) for name, value in fields.items()}
    try:
        text = encode(plain)
    except ValueError:
        text = encode({name: repr(value) for name, value in fields.items()})
    return text if len(text) <= _limits.LOG_LINE_BYTES else encode({"dropped": f"{len(text)} bytes of fields"})


class RunHandler(logging.Handler):
    """Sends records that are made while a run executes to that run's log."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.lowered_from: int | None = None

    def emit(self, record: logging.LogRecord) -> None:
        attempt = executing_attempt.get()
        if attempt is not None and not attempt.unwinding and attempt.replay.is_over:
            current = running_step.get()
            step = getattr(current, "_name", None) if current is not None else None
            try:
                message = record.getMessage()
                if record.exc_info:
                    message += "\n" + logging.Formatter().formatException(record.exc_info)
            except Exception:  # noqa: BLE001 - logging never raises into the code that logs
                self.handleError(record)
                return
            worker = attempt.worker
            worker.on_loop(worker.log, attempt, record.levelname.lower(), message, step, {"logger": record.name})
        root = logging.getLogger()
        if root.handlers == [self] and record.levelno >= logging.WARNING and sys.stderr is not None:
            # We are the only handler because nobody configured logging: keep what Python would print then.
            logging.lastResort.handle(record) if logging.lastResort else None


class _AsBefore(logging.Filter):
    """Keeps the program's own handlers from printing what they would not have printed without us."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self.level = level

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= self.level:
            return True
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None and logger.parent is not None:
            if logger.level:
                return True
            logger = logger.parent
        return False


def install(level: int) -> Callable[[], None]:
    """Make the standard logging module feed runs' logs; gives what takes it back."""
    root = logging.getLogger()
    handler, before, others = RunHandler(level), root.level, list(root.handlers)
    as_before = _AsBefore(before) if before > level else None
    if as_before is not None:
        root.setLevel(level)
        for other in others:
            other.addFilter(as_before)
    root.addHandler(handler)

    def remove() -> None:
        root.removeHandler(handler)
        if as_before is not None:
            for other in others:
                other.removeFilter(as_before)
            if root.level == level:
                root.setLevel(before)

    return remove
