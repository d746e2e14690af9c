"""Comparing what callers were told, and what really happened, with what the file says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from osprotocol._embedded.books import verify_audit
from tests.crash.checks import problems
from tests.lab.harness import Tally
from tests.lab.product.history import History
from tests.lab.product.listening import Listener

_RUNS = "SELECT key, id, workflow, status FROM runs"
_EVENTS = "SELECT id, run, number, type, position, value FROM journal ORDER BY id"
_REQUESTS = "SELECT id, kind, status, responses, answer FROM requests"
_AUDIT = "SELECT by, action, run, request, detail FROM audit"
_NOTICED_NS = 500_000_000
"""By then every process that runs has noticed a commit; it promises 50 ms of a machine that is not overloaded."""
_FINAL = ("completed", "failed", "cancelled")
_CLOSED = ("request-closed", "invalid-transition")


class Run(NamedTuple):
    """A run in the file, with its events as (number, type, position, value)."""

    id: str
    workflow: str
    status: str
    events: list[tuple[int, str, str | None, Any]]

    def values(self, kind: str) -> list[Any]:
        """What events of a type hold."""
        return [value for _, type_, _, value in self.events if type_ == kind]


class Effect(NamedTuple):
    """One line of the ledger."""

    word: str
    key: str
    pid: int
    at: int
    what: str


def effects_of(ledger: Path) -> list[Effect]:
    """Every line of the ledger, in the order in which they were written."""
    lines = [line.split(" ", 4) for line in ledger.read_text(encoding="utf-8").splitlines()]
    return [Effect(word, key, int(pid), int(at), what) for word, key, pid, at, what in lines]


class Verifier:
    """The file of one case after all processes have ended.

    Args:
        database: the file.
        ledger: where effects went.
        history: what callers were told.
        zombies: processes that were stopped, and whose runs were given to others meanwhile.
        tally: what was found.
    """

    def __init__(self, database: Path, ledger: Path, history: History, zombies: set[int], tally: Tally) -> None:
        self._path = database
        self._history = history
        self._zombies = zombies
        self._tally = tally
        self._effects = effects_of(ledger)
        self._began: dict[str, list[Effect]] = {}
        for effect in self._effects:
            if effect.word == "effect":
                self._began.setdefault(effect.key.rpartition(":")[0], []).append(effect)
        connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            rows: list[Any] = connection.execute(_EVENTS).fetchall()
            self._cursors = [(int(row[0]), int(row[2]), str(row[3])) for row in rows]
            by_run: dict[int, list[Any]] = {}
            for _, run, number, kind, position, value in rows:
                by_run.setdefault(run, []).append((number, kind, position, value and json.loads(value)))
            runs: list[Any] = connection.execute(_RUNS).fetchall()
            self._runs = {name: Run(name, workflow, status, by_run[key]) for key, name, workflow, status in runs}
            requests: list[Any] = connection.execute(_REQUESTS).fetchall()
            self._requests: dict[str, Any] = {row[0]: row for row in requests}
            self._audit: list[Any] = connection.execute(_AUDIT).fetchall()
        finally:
            connection.close()

    def wrong(self, listeners: list[Listener]) -> list[str]:
        """Sentences about what does not hold; none if all does."""
        found = [*self._history.wrong, *problems(self._path)]
        for check in (self._starts, self._ends, self._votes, self._answers, self._cancels, self._pauses):
            found += check()
        found += [*self._steps(listeners), *self._streams(listeners), *self._records()]
        return found

    def told_truly(self) -> list[str]:
        """As `wrong`, without what needs the streams, the audit log and the expected results."""
        found = [*self._history.wrong, *problems(self._path)]
        for check in (self._starts, self._votes, self._answers, self._cancels, self._pauses):
            found += check()
        return [*found, *self._steps([])]

    # --------------------------------------------------------------------- starts

    def _starts(self) -> Iterator[str]:
        inputs = Counter(str(run.values("run.started")[0]) for run in self._runs.values())
        for start in self._history.starts:
            told = set(start.told)
            if len(told) > 1:
                yield f"start {start.label} was answered with several runs: {sorted(told)}"
            for run_id in told:
                run = self._runs.get(run_id)
                if run is None:
                    yield f"start {start.label} was answered with run {run_id}, which does not exist"
                elif (run.workflow, run.values("run.started")[0]) != (start.workflow, start.label):
                    yield f"start {start.label} was answered with run {run_id}, which is another one"
            if inputs[start.label] > 1:
                yield f"start {start.label} made {inputs[start.label]} runs"
            if inputs[f"{start.label}-other"]:
                yield f"start {start.label}: a refused body made a run"

    def _ends(self) -> Iterator[str]:
        cancelled = {cancel.run_id for cancel in self._history.cancels}
        for run in self._runs.values():
            self._tally.count(f"runs {run.status}")
            if run.status not in _FINAL:
                yield f"run {run.id} is {run.status} after a quiet time with a server"
            elif run.status == "failed" or (run.status == "cancelled" and run.id not in cancelled):
                yield f"run {run.id} is {run.status} although nothing failed: {run.values('run.failed')}"
            elif run.status == "completed":
                result, expected = run.values("run.completed")[-1], self._expected(run)
                if result != expected:
                    yield f"run {run.id} gave {result!r}, not {expected!r}"
        by_label = {run.values("run.started")[0]: run for run in self._runs.values()}
        for label, result in self._history.results.items():
            if label not in by_label or by_label[label].values("run.completed")[-1:] != [result]:
                yield f"a caller got {result!r} from run {label}, which the file does not say"

    def _expected(self, run: Run) -> Any:
        label = run.values("run.started")[0]
        if run.workflow == "lab.chain":
            return _chain(label)
        if run.workflow == "lab.family":
            return [_chain(f"{label}.x"), _chain(f"{label}.y")]
        if run.workflow == "lab.slow":
            return 12
        own = [row for name, row in self._requests.items() if name.rpartition("-")[0] == run.id]
        own = sorted((row for row in own if row[1] != "attention"), key=lambda row: int(row[0].rpartition("-")[2]))
        return own[0][2] if run.workflow == "lab.decide" else [json.loads(row[4]) for row in own]

    # --------------------------------------------------------------------- people

    def _votes(self) -> Iterator[str]:
        said: dict[tuple[str, str], set[bool]] = {}
        for vote in self._history.votes:
            place = vote.request, vote.by
            if vote.status == 200:
                said.setdefault(place, set()).add(vote.approved)
            elif vote.status is not None and vote.code not in (*_CLOSED, "vote-conflict"):
                yield f"vote of {vote.by} on {vote.request} was refused: {vote.status} {vote.code}"
        unknown = {(vote.request, vote.by) for vote in self._history.votes if vote.status is None}
        for name, kind, status, responses, _ in self._requests.values():
            if kind != "approval":
                continue
            counted = json.loads(responses)
            people = [one["by"] for one in counted]
            if len(people) != len(set(people)):
                yield f"request {name} counts a person twice: {people}"
            for one in counted:
                told = said.pop((name, one["by"]), None)
                if told is None and (name, one["by"]) not in unknown:
                    yield f"request {name} counts a vote of {one['by']} that was answered with a refusal"
                if told is not None and told != {one["approved"]}:
                    yield f"request {name} counts {one}, {one['by']} was told {told}"
            yes = sum(one["approved"] for one in counted)
            outcome = "approved" if yes >= 2 else "rejected" if len(counted) - yes >= 2 else None
            if status in ("approved", "rejected") and (status != outcome or len(counted) > 3):
                yield f"request {name} is {status} by {counted}"
            if status in ("approved", "rejected") and max(yes, len(counted) - yes) > 2:
                yield f"request {name} went on counting after it was decided: {counted}"
        for (name, by), told in said.items():
            yield f"{by} was told that the vote {told} on {name} counts; the file has none"

    def _answers(self) -> Iterator[str]:
        used: dict[str, set[str]] = {}
        for effect in self._effects:
            if effect.word == "effect" and "=" in effect.what:
                label, _, value = effect.what.partition("=")
                used.setdefault(label, set()).add(value)
        for label, values in used.items():
            if len(values) > 1:
                yield f"several answers were used at {label}: {sorted(values)}"
        told: Counter[str] = Counter()
        for answer in self._history.answers:
            row = self._requests.get(answer.request)
            if row is None:
                yield f"request {answer.request} is gone"
            elif row[1] == "input" and answer.status == 200:
                told[answer.request] += 1
                if row[4] is None or json.loads(row[4]) != answer.value:
                    yield f"{answer.by} was told that {answer.value} answers {answer.request}; it is {row[4]}"
            elif answer.status not in (200, None) and answer.code not in _CLOSED:
                yield f"answer of {answer.by} to {answer.request} was refused: {answer.status} {answer.code}"
        for name, number in told.items():
            if number > 1:
                yield f"{number} people were told that their answer to {name} is the one"
        answers = Counter(row[4] for row in self._requests.values() if row[1] == "input" and row[4] is not None)
        for value, number in answers.items():
            if number > 1:
                yield f"answer {value} stands in {number} requests"

    # ------------------------------------------------------------------- steering

    def _cancels(self) -> Iterator[str]:
        for cancel in self._history.cancels:
            run = self._runs[cancel.run_id]
            if cancel.status == 200:
                said = cancel.run["status"]
                if said != "cancelled" and not cancel.run["cancelling"]:
                    yield f"cancel of {run.id} was answered with {said}"
                if run.status != "cancelled":
                    yield f"cancel of {run.id} was accepted; the run is {run.status}"
                if said == "cancelled":
                    self._tally.mark("cancels told as done")
                    # A forced cancel ends the run wherever it executes; another process hears of it in a moment.
                    since = cancel.told_at + _NOTICED_NS
                    yield from self._nothing_begins(run.id, since, 1 << 63, "after everybody had heard of its cancel")
            elif cancel.status == 409:
                self._tally.mark("cancels that came too late")
                if run.status not in _FINAL:
                    yield f"cancel of {run.id} was refused because it ended; it is {run.status}"
            elif cancel.status is not None:
                yield f"cancel of {run.id} was answered with {cancel.status}"

    def _pauses(self) -> Iterator[str]:
        for pause in self._history.pauses:
            if pause.settled_at and pause.resumed_at:
                yield from self._nothing_begins(pause.run_id, pause.settled_at, pause.resumed_at, "while it was paused")
            if pause.status == 200 and pause.resumed not in (200, 409, None):
                yield f"resume of {pause.run_id} was answered with {pause.resumed}"

    def _nothing_begins(self, run_id: str, since: int, until: int, when: str) -> Iterator[str]:
        for effect in self._began.get(run_id, ()):
            if since < effect.at < until and effect.pid not in self._zombies:
                yield f"step {effect.key} began {(effect.at - since) / 1e6:.1f} ms {when}"

    # ---------------------------------------------------------------------- steps

    def _steps(self, listeners: list[Listener]) -> Iterator[str]:
        committed: dict[str, int] = {}
        for listener in listeners:
            for key, at in listener.committed.items():
                committed[key] = min(at, committed.get(key, at))
        began: Counter[str] = Counter()
        for effect in self._effects:
            if effect.word != "effect":
                continue
            began[effect.key] += 1
            if effect.at > committed.get(effect.key, effect.at):
                if effect.pid not in self._zombies:
                    yield f"step {effect.key} ({effect.what}) began again after its result was seen to be committed"
                self._tally.count("steps begun by processes whose runs were taken away")
        for run in self._runs.values():
            done = Counter(position for _, kind, position, _ in run.events if kind == "step.completed")
            for position, number in done.items():
                if number > 1:
                    yield f"run {run.id} accepted {number} results of step {position}"
                if not began[f"{run.id}:{position}"]:
                    yield f"run {run.id} has a result of step {position}, which never began"
            deaths = sum(kind == "run.recovered" for _, kind, _, _ in run.events)
            self._tally.count("recoveries", deaths)
            self._tally.count(
                "results refused because their run was taken away", len(run.values("attempt.late-result"))
            )
        self._tally.count("effects", sum(began.values()))
        self._tally.count("effects that were repeated before a commit", sum(began.values()) - len(began))

    # -------------------------------------------------------------------- streams

    def _streams(self, listeners: list[Listener]) -> Iterator[str]:
        for listener in listeners:
            yield from listener.wrong
            read = [(event["cursor"], event["number"], event["type"]) for event in listener.events]
            own = self._cursors
            if listener.run_id is not None:
                numbers = [(number, kind) for number, kind, _, _ in self._runs[listener.run_id].events]
                if [(number, kind) for _, number, kind in read] != numbers:
                    yield f"stream of {listener.run_id} gave {len(read)} events, the file has {len(numbers)}"
            elif read != own:
                first = next((n for n, (a, b) in enumerate(zip(read, own, strict=False)) if a != b), len(read))
                yield f"stream of all runs gave {len(read)} events, the file has {len(own)}; they differ at {first}"
            self._tally.count("events read from streams", len(read))

    # ---------------------------------------------------------------------- audit

    def _records(self) -> Iterator[str]:
        broken = verify_audit(self._path)
        if broken is not None:
            yield f"the audit log is broken at record {broken}"
        written = Counter((by, action, run, request) for by, action, run, request, _ in self._audit)
        expected: Counter[tuple[str, str, str | None, str | None]] = Counter()
        for run in self._runs.values():
            for number, kind, _, value in run.events:
                del number
                if kind == "run.started" and "." not in value:
                    start = next((one for one in self._history.starts if one.label == value), None)
                    expected[start.by if start else "?", "run.start", run.id, None] += 1
                elif kind in ("run.paused", "run.resumed") and not value["by"].startswith("run:"):
                    expected[
                        value["by"], {"run.paused": "run.pause", "run.resumed": "run.resume"}[kind], run.id, None
                    ] += 1
        for name, kind, _, responses, _ in self._requests.values():
            if kind != "attention":
                action = "request.vote" if kind == "approval" else "request.respond"
                for one in json.loads(responses):
                    expected[one["by"], action, name.rpartition("-")[0], name] += 1
        for cancel in self._history.cancels:
            if self._runs[cancel.run_id].status == "cancelled":
                expected[cancel.by, "run.cancel", cancel.run_id, None] += 1
        kept = {
            place: n
            for place, n in written.items()
            if place[1] in _AUDITED and not _is_attention(place, self._requests)
        }
        for place in sorted({*expected, *kept}, key=str):
            if kept.get(place, 0) != expected[place]:
                yield f"audit log has {kept.get(place, 0)} records of {place}, there were {expected[place]} changes"
        self._tally.count("audit records compared", sum(kept.values()))


_STEERED = {"run.paused": "run.pause", "run.resumed": "run.resume"}
_AUDITED = ("run.start", "run.pause", "run.resume", "run.cancel", "request.vote", "request.respond", "request.open")


def _is_attention(place: tuple[Any, ...], requests: dict[str, Any]) -> bool:
    return place[3] is not None and requests[place[3]][1] == "attention"


def _chain(label: str) -> list[str]:
    return [f"{label}.{letter}" for letter in "abcde"]
