"""What the ledger outside, the callers and the file say about killed workers, and where they contradict each other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from tests.crash.checks import problems

Lines = list[list[str]]


@dataclass
class Told:
    """What callers were told, kept outside of the engine.

    Attributes:
        approved: the person by the run's id.
        cancelled: runs whose cancel was accepted.
        results: by run id.
    """

    started: list[str] = field(default_factory=list)
    approved: dict[str, str] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    results: dict[str, object] = field(default_factory=dict)


@dataclass
class Books:
    """The ledger read once, in the order in which it was written.

    Attributes:
        effects: pid and token of every try of an effect that began, by key.
        accepted: the token that a worker saw committed, by key.
        repeats: effects that began again because their process died before the commit.
        wrong: what must not be.
        refused: effects that returned in a worker that was evicted before.
    """

    effects: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    accepted: dict[str, str] = field(default_factory=dict)
    repeats: int = 0
    wrong: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    _dying: set[str] = field(default_factory=set)
    _dead: set[str] = field(default_factory=set)
    _evicted: set[str] = field(default_factory=set)
    _began: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)
    _owner_of: dict[tuple[str, str], str] = field(default_factory=dict)
    _late: list[tuple[str, str]] = field(default_factory=list)
    _stands_on: list[tuple[str, str]] = field(default_factory=list)
    _callbacks: set[str] = field(default_factory=set)

    def read(self, lines: Lines) -> None:
        """Everything that happened."""
        for word, *rest in lines:
            if word == "effect":
                self._begins(*rest)
            elif word == "returns":
                key, pid, token = rest
                if pid in self._evicted:
                    self.refused.append((key, token))
            elif word == "committed":
                self._is_committed(*rest)
            elif word == "callback":
                if rest[0] in self._callbacks:
                    self.wrong.append(f"a callback was called again for the run that gave {rest[0]}")
                self._callbacks.add(rest[0])
            elif word == "killing":
                self._dying.add(rest[0])
            elif word == "killed":
                self._dead.add(rest[0])
            elif word == "evicting":
                self._evicted.add(rest[0])

    def _begins(self, key: str, pid: str, token: str, attempt: str, epoch: str, given: str) -> None:
        run = key.rpartition(":")[0]
        is_zombie = pid in self._evicted
        if key in self.accepted and not is_zombie:
            self.wrong.append(f"effect {key} began in {pid} after its result was committed")
        if self._owner_of.setdefault((run, epoch), pid) != pid:
            self.wrong.append(f"epoch {epoch} of run {run} had effects in {pid} and {self._owner_of[run, epoch]}")
        if given != "-" and not is_zombie:
            self._stands_on.append((key, given))
        before = self._began.get((key, attempt))
        if before is not None:
            self.repeats += 1
            other, other_epoch = before
            is_given_up = other in self._dying or other in self._evicted or is_zombie
            if not is_given_up:
                self.wrong.append(f"effect {key} began in {pid} while {other} lived, which had begun it")
            if int(epoch) <= other_epoch and not is_zombie:
                self.wrong.append(f"effect {key} began in epoch {other_epoch}, and again in {epoch}")
        for earlier, of_token in self.effects.get(key, ()):
            if earlier in self._dead and not is_zombie:
                self._late.append((key, of_token))
        self._began[key, attempt] = pid, int(epoch)
        self.effects.setdefault(key, []).append((pid, token))

    def _is_committed(self, key: str, pid: str, token: str) -> None:
        if self.accepted.setdefault(key, token) != token:
            self.wrong.append(f"two results of {key} were committed: {self.accepted[key]}, and in {pid} {token}")

    def late_effects(self, journal: dict[str, str]) -> Iterator[str]:
        """Effects that began although a process that was dead by then had committed the result."""
        for key, token in self._late:
            if journal.get(key) == token:
                yield f"effect {key} began after the worker was dead that had committed its result"

    def baseless_effects(self, journal: dict[str, str]) -> Iterator[str]:
        """Effects that were given the result of a step before its commit, which then never came."""
        results = set(journal.values())
        for key, given in self._stands_on:
            if given not in results:
                yield f"effect {key} was given {given}, which is no step's result in the journal"


_RESULTS = """
SELECT r.id || ':' || j.position, json_extract(j.value, '$') FROM journal j JOIN runs r ON r.key = j.run
WHERE j.type = 'step.completed' ORDER BY j.id
"""
_FINAL = "SELECT value FROM journal j JOIN runs r ON r.key = j.run WHERE r.id = ? AND j.type = 'run.completed'"
_VOTED = """
SELECT count(*) FROM requests q JOIN runs r ON r.key = q.run, json_each(q.responses) one
WHERE r.id = ? AND json_extract(one.value, '$.by') = ?
"""


def contradictions(path: Path, books: Books, told: Told) -> list[str]:
    """Everything that is wrong, once all runs are final."""
    wrong = [*books.wrong, *problems(path)]
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        journal: dict[str, str] = {}
        for key, token in connection.execute(_RESULTS):
            if str(key) in journal:
                wrong.append(f"the journal has two results of {key}")
            journal[str(key)] = str(token)
        wrong += _against_effects(books, journal)
        wrong += [*books.late_effects(journal), *books.baseless_effects(journal)]
        wrong += _against_callers(connection, told)
    finally:
        connection.close()
    return wrong


def _against_effects(books: Books, journal: dict[str, str]) -> Iterator[str]:
    for key, token in journal.items():
        if token not in {given for _, given in books.effects.get(key, ())}:
            yield f"the journal has result {token} of {key}, which no effect gave"
    for key, token in books.accepted.items():
        if journal.get(key) != token:
            yield f"result {token} of {key} was committed, and the journal has {journal.get(key)}"


def _against_callers(connection: apsw.Connection, told: Told) -> Iterator[str]:
    runs = {str(name): str(status) for name, status in connection.execute("SELECT id, status FROM runs")}
    if len(set(told.started)) != len(told.started):
        yield "two starts with different keys were told the same run"
    for run in told.started:
        wanted = "cancelled" if run in told.cancelled else "completed"
        if run not in runs:
            yield f"the start of {run} was acknowledged, and there is no such run"
        elif runs[run] != wanted:
            yield f"run {run} has to be {wanted}, and is {runs[run]}"
    for run, person in told.approved.items():
        if not connection.execute(_VOTED, (run, person)).get:
            yield f"the approval of {run} by {person} was acknowledged, and is not there"
    for run, result in told.results.items():
        value = connection.execute(_FINAL, (run,)).get
        if value is None or json.loads(str(value)) != result:
            yield f"run {run} gave {result} to its caller, and {value} is stored"
