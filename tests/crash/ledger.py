"""What really happened, kept outside of the engine: every beginning of an effect, and whether it was allowed then."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import apsw

from osprotocol import current_step
from tests.crash.life import Life

# A retry of the run forgets the step that failed: that one may begin again.
_COMMITTED = """
SELECT 1 FROM journal j JOIN runs r ON r.key = j.run
WHERE r.id = ? AND j.position = ? AND j.type IN ('step.completed', 'step.failed')
AND NOT EXISTS (
    SELECT 1 FROM journal later, json_each(later.value, '$.forgotten') forgotten WHERE later.run = j.run
    AND later.number > j.number AND later.type = 'run.retrying' AND forgotten.value = j.position)
"""


class Ledger:
    """The world's account of the effects of steps. It outlives engines and has its own connection.

    Attributes:
        effects: how often each effect began, by the step's idempotency key.
        labels: how often, by the label that the step gave.
        wrong: sentences about what must never happen.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.effects: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.life: Life | None = None
        self._returned: dict[str, list[str]] = {}
        self._reader: apsw.Connection | None = None

    def begin_life(self, life: Life) -> None:
        """From now on effects happen in this process."""
        self.life = life
        self._returned = {}

    async def effect(self, label: str) -> None:
        """An effect of the step that executes now. In a dead process nothing happens any more."""
        if self.life is None or self.life.is_dead:
            await asyncio.get_running_loop().create_future()
        key = current_step().idempotency_key
        run_id, _, position = key.rpartition(":")
        if self._is_committed(run_id, position):
            self.wrong.append(f"effect {label} began although its result is committed")
        for earlier in self._returned.get(run_id, ()):
            if not self._is_committed(run_id, earlier):
                self.wrong.append(f"effect {label} began before the result of step {earlier} was committed")
        self.effects[key] += 1
        self.labels[label] += 1

    def returns(self) -> None:
        """The step that executes now is about to return."""
        run_id, _, position = current_step().idempotency_key.rpartition(":")
        self._returned.setdefault(run_id, []).append(position)

    def _is_committed(self, run_id: str, position: str) -> bool:
        if self._reader is None:
            self._reader = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READONLY)
        return self._reader.execute(_COMMITTED, (run_id, position)).fetchone() is not None

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
