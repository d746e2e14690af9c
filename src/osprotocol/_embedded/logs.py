"""Runs' logs: lines from the context, from steps and from the standard `logging` module, bounded per run."""

from __future__ import annotations

import asyncio
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
from osprotocol.errors import StoreError

if TYPE_CHECKING:
    from osprotocol._embedded.attempt import Attempt
    from osprotocol._embedded.branches import Branch

executing_attempt: ContextVar[Attempt | None] = ContextVar("executing_attempt", default=None)

_ROUND_S = 0.02
_LINES_PER_COMMIT = 2_000
_RUNS_COUNTED = 10_000


class RunLogs:
    """Collects lines and stores them a few times a second, so that a flood of lines never delays a step."""

    def __init__(self, store: Store, writer: Writer, clock: Clock, listen: Callable[[list[LogRow]], None]) -> None:
        self._store = store
        self._writer = writer
        self._clock = clock
        self._listen = listen
        self._waiting: list[LogRow] = []
        self._written: dict[int, tuple[int, int]] = {}
        self._scheduled = False

    def add(
        self, run: int, run_id: str, attempt: int, level: str, message: str, step: str | None, fields: dict[str, Any]
    ) -> None:
        """Add a line; beyond LOG_LINES_PER_RUN or LOG_BYTES_PER_RUN one line says so and the rest is dropped."""
        counted = self._written.get(run) or self._count(run)
        lines, size = counted or (0, 0)
        if lines > _limits.LOG_LINES_PER_RUN:
            return
        full = None
        if lines == _limits.LOG_LINES_PER_RUN:
            full = f"LOG_LINES_PER_RUN = {lines}"
        elif size >= _limits.LOG_BYTES_PER_RUN:
            full = f"LOG_BYTES_PER_RUN = {_limits.LOG_BYTES_PER_RUN}"
        if full is not None:
            lines, level, fields = _limits.LOG_LINES_PER_RUN, "warning", {}
            message = f"log of run {run_id} is full ({full}); the rest is dropped"
        data = message.encode("utf-8", "replace")[: _limits.LOG_LINE_BYTES]
        text, more = data.decode("utf-8", "ignore").replace("\x00", "␀"), _fields_text(fields)
        if counted is not None:
            self._written[run] = lines + 1, size + len(data) + len(more or "")
        if len(self._written) > _RUNS_COUNTED:
            self._written.pop(next(iter(self._written)))
        self._waiting.append(LogRow(run, self._clock.now(), level, text, attempt, step, more))
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_later(_ROUND_S, self.flush)

    def _count(self, run: int) -> tuple[int, int] | None:
        """Lines and bytes that are stored; None when the store cannot say, which code that logs is not told."""
        try:
            lines, size = self._store.rows("count_logs", (run,))[0]
        except StoreError:
            return None
        return lines, size

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
        current = running_step.get()
        if attempt is not None and not attempt.unwinding and (current is not None or attempt.is_new(_branch(attempt))):
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


def _branch(attempt: Attempt) -> Branch | None:
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return None  # a thread of a step
    return attempt.branches.get(task) if task is not None else None


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
