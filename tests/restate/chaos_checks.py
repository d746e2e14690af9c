"""What must be true after the chaos run: the outside ledger, what people were told, and every copy agree."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from osprotocol import RunStatus
from osprotocol._embedded.upstream import MARK
from tests.crash.checks import problems
from tests.restate.chaos_people import Plan
from tests.restate.ledger_file import Line

# A signal is noted before it is sent: what its target still does in between comes after it in the ledger.
_SIGNAL_S = 1.0
_GRACE_S = 8.0
_KNOWN_S = 3.0
"""How long a worker may take to hear of a cancel that somebody else made."""
_FINAL = ("run.completed", "run.failed", "run.cancelled")


@dataclass
class Story:
    """The ledger's lines, and what the database says at the end.

    Attributes:
        steps: all lines of a step, by run and position.
        harm: what was done to a process, by its id.
    """

    plans: list[Plan]
    lines: list[Line]
    copy: Path
    figures: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.harm: dict[int, list[Line]] = defaultdict(list)
        self.begins: dict[str, list[Line]] = defaultdict(list)
        self.ends: dict[str, Line] = {}
        for line in self.lines:
            if line.kind == "fault" and line.facts.get("worker"):
                self.harm[line["worker"]].append(line)
            elif line.kind == "begin":
                self.begins[line["key"]].append(line)
            elif line.kind == "end":
                self.ends[line["value"]] = line
        connection = apsw.Connection(str(self.copy), flags=apsw.SQLITE_OPEN_READONLY)
        self.runs = _rows(connection, "SELECT * FROM runs", "id")
        self.requests = _rows(connection, "SELECT * FROM requests", "id")
        sql = "SELECT runs.id AS run_id, journal.* FROM journal JOIN runs ON runs.key = journal.run ORDER BY journal.id"
        self.journal = list(_rows(connection, sql, None).values())
        connection.close()

    def of(self, kind: str) -> list[Line]:
        return [line for line in self.lines if line.kind == kind]

    def result(self, run_id: str) -> Any:
        found = [row for row in self.journal if row["run_id"] == run_id and row["type"] == "run.completed"]
        return json.loads(found[0]["value"]) if found else None

    def problems(self) -> Iterator[str]:
        """Sentences about what is wrong; none if all is well."""
        yield from problems(self.copy)
        yield from self._starts()
        yield from self._steps()
        yield from self._results()
        yield from self._votes()
        yield from self._answers()
        yield from self._cancels()
        yield from self._pauses()
        yield from self._callbacks()

    # ------------------------------------------------------------------- steps

    def _steps(self) -> Iterator[str]:
        """No step began after its result was seen, none twice without a cause, and everybody saw the same results."""
        seen: dict[tuple[str, str], tuple[int, str]] = {}
        for line in self.of("begin"):
            run = _run_of(line["key"])
            for value in line["saw"]:
                yield from self._saw(seen, run, value, line.number)
        for plan in self.plans:
            result = self.result(plan.run_id)
            for run, values in {plan.run_id: result["saw"], **result.get("children", {})}.items() if result else ():
                for value in values:
                    yield from self._saw(seen, run, value, len(self.lines))
        for key, begins in self.begins.items():
            number, _ = seen.get((_run_of(key), begins[0]["label"]), (len(self.lines), ""))
            for line in begins:
                if line.number > number:
                    self.figures["steps begun by a worker that was stopped meanwhile, and refused"] += 1
                    if not self._was_stopped(line):
                        yield f"step {key} {line['label']} began (line {line.number}) after it was seen ({number})"
            for earlier, later in itertools.pairwise(begins):
                if earlier["turn"] > later["turn"] and not self._was_stopped(later):
                    yield f"step {key} began its try {later['turn']} after its try {earlier['turn']}"
                if earlier["turn"] == later["turn"]:
                    self.figures[f"steps begun twice: {self._cause(earlier, later)}"] += 1
        self.figures["steps begun"] = sum(map(len, self.begins.values()))
        self.figures["steps"] = len(self.begins)
        yield from self._journaled(seen)

    def _saw(self, seen: dict[tuple[str, str], tuple[int, str]], run: str, value: str, number: int) -> Iterator[str]:
        label = value.partition("~")[0]
        known = seen.setdefault((run, label), (number, value))
        if known[1] != value:
            yield f"run {run} saw {known[1]} and later {value} (line {number})"
        end = self.ends.get(value)
        if end is None or end.number > number or _run_of(end["key"]) != run:
            yield f"run {run} saw {value} (line {number}), which no step of it had given"

    def _journaled(self, seen: dict[tuple[str, str], tuple[int, str]]) -> Iterator[str]:
        completed: Counter[tuple[str, str]] = Counter()
        values = set()
        ended: dict[str, int] = {}
        for row in self.journal:
            run = row["run_id"]
            if row["type"] == "step.completed":
                completed[run, row["position"]] += 1
                values.add((run, json.loads(row["value"])))
            if run in ended and row["type"].startswith("step."):
                yield f"run {run} has {row['type']} after it was final"
            if row["type"] in _FINAL:
                ended[run] = row["number"]
        for (run, position), count in completed.items():
            if count > 1:
                yield f"step {run}:{position} was completed {count} times"
        for (run, _), (number, value) in seen.items():
            if (run, value) not in values:
                yield f"run {run} saw {value} (line {number}), which is not in its journal"

    def _was_stopped(self, line: Line) -> bool:
        """Whether the process was stopped since what it did before in that run: so it could not know better."""
        run = _run_of(line["key"])
        before = [
            one.number
            for one in self.lines[: line.number]
            if one.pid == line.pid and one.kind in ("begin", "end") and _run_of(one["key"]) == run
        ]
        since = before[-1] if before else 0
        return any(
            one["what"] == "stop" and one.number < line.number and (one.number > since or one.at > line.at - 10)
            for one in self.harm[line.pid]
        )

    def _cause(self, earlier: Line, later: Line) -> str:
        for one in self.harm[earlier.pid]:
            margin_s = _GRACE_S if one["what"] == "term" else _SIGNAL_S
            if one.number < later.number and (one.number > earlier.number or one.at > earlier.at - margin_s):
                return {"kill": "killed", "stop": "stopped", "term": "terminated"}.get(one["what"], str(one["what"]))
        return "cut off"

    # -------------------------------------------------------------------- runs

    def _starts(self) -> Iterator[str]:
        """Every acknowledged start exists, is one run however often it was asked for, and ended as it should."""
        ids: dict[str, set[str]] = defaultdict(set)
        for line in self.of("accepted"):
            ids[line["key"]].add(line["run"])
        for plan in self.plans:
            if len(ids[plan.key]) != 1:
                yield f"key {plan.key} was accepted as {len(ids[plan.key])} runs"
            run = self.runs.get(plan.run_id)
            if run is None:
                yield f"run {plan.run_id} ({plan.key}) was accepted and is lost"
            elif run["status"] not in plan.statuses:
                yield f"run {plan.run_id} ({plan.key}, {plan.kind}) is {run['status']}: {run['error']}"
        known = {plan.run_id for plan in self.plans}
        for run in self.runs.values():
            if run["id"] not in known and run["parent_id"] not in known:
                yield f"run {run['id']} was never asked for"
        children = Counter(run["parent_id"] for run in self.runs.values())
        for plan in self.plans:
            if plan.kind == "family" and children[plan.run_id] != 2:
                yield f"run {plan.run_id} has {children[plan.run_id]} children"

    def _results(self) -> Iterator[str]:
        """Every run that completed went all its way."""
        for plan in self.plans:
            run, result = self.runs.get(plan.run_id), self.result(plan.run_id)
            if run is None or (result is None) != (run["status"] != RunStatus.COMPLETED):
                yield f"run {plan.run_id} has the result {result}"
            elif result is not None and result["run"] != plan.run_id:
                yield f"run {plan.run_id} gives the result of {result['run']}"
            if plan.kind in ("chain", "paused") and result is not None:
                labels = [value.partition("~")[0] for value in result["saw"]]
                if labels != [*(f"s{n}" for n in range(len(plan.input["sleeps"]))), "flaky", "last"]:
                    yield f"run {plan.run_id} went through {labels}"
            if plan.kind == "timeout" and run is not None and run["status"] == "failed":
                error = json.loads(run["error"] or "{}")
                if error.get("code") != "run-timed-out":
                    yield f"run {plan.run_id} failed with {error}"

    # ------------------------------------------------------------------ people

    def _votes(self) -> Iterator[str]:
        for line in self.of("vote"):
            request = self.requests.get(line["request"])
            if request is None:
                yield f"request {line['request']} was voted on and is lost"
                continue
            if line["outcome"] not in ("open", request["status"]):
                yield f"request {line['request']}: {line['by']} was told {line['outcome']}, it is {request['status']}"
            if line["counted"] and (line["by"], line["approved"]) not in _voters(request):
                yield f"request {line['request']}: the vote of {line['by']} counted and is lost"
        closings = Counter(
            json.loads(row["value"])["requestId"] for row in self.journal if row["type"] == "request.closed"
        )
        for plan in self.plans:
            asked = [one for one in self.requests.values() if self._is_asked(one, plan.run_id, "approval")]
            result = self.result(plan.run_id) if plan.asks else None
            for ask, request, told in zip(plan.asks, asked, result["decided"] if result else (), strict=False):
                yield from _decided(ask, request, told, closings[request["id"]])

    def _is_asked(self, request: dict[str, Any], run_id: str, kind: str) -> bool:
        return bool(request["run"] == self.runs[run_id]["key"] and request["kind"] == kind)

    def _answers(self) -> Iterator[str]:
        for line in self.of("answer"):
            request = self.requests[line["request"]]
            if line["outcome"] != "answered" or request["status"] != "answered":
                yield f"request {line['request']} is {request['status']}, an answer was told {line['outcome']}"
            if line["taken"] is not None and json.loads(request["answer"]) != line["taken"]:
                yield f"request {line['request']}: {line['taken']} was taken, it has {request['answer']}"
        for plan in self.plans:
            result = self.result(plan.run_id)
            if plan.kind == "inputs" and result is not None:
                asked = [one for one in self.requests.values() if self._is_asked(one, plan.run_id, "input")]
                answers = [json.loads(one["answer"]) for one in asked]
                if result["numbers"] != answers:
                    yield f"run {plan.run_id} got {result['numbers']}, people answered {answers}"

    def _cancels(self) -> Iterator[str]:
        for line in self.of("cancelled"):
            if line["reply"] not in ("cancelled", "cancelling"):
                yield f"run {line['run']}: a cancel was told {line['reply']}"
        told = {line["run"]: line for line in reversed(self.of("cancelled")) if line["reply"] == "cancelled"}
        for key, begins in self.begins.items():
            cancelled = told.get(_run_of(key))
            for begin in begins:
                if cancelled is not None and begin.number > cancelled.number:
                    self.figures["steps begun after a cancel was acknowledged, and refused"] += 1
                    if begin.at - cancelled.at > _KNOWN_S and not self._was_stopped(begin):
                        yield f"step {key} began {begin.at - cancelled.at:.1f} s after its run was cancelled"
        for plan in self.plans:
            if plan.kind == "graceful" and not self.runs[plan.run_id]["deaths"]:
                labels = {line["label"] for line in self.lines if line.facts.get("key", "").startswith(plan.run_id)}
                ended = {line["label"] for line in self.ends.values() if line["key"].startswith(plan.run_id)}
                if "round0" in labels and not {"undo", "undone"} <= ended:
                    yield f"run {plan.run_id} was cancelled and did not clean up"

    def _pauses(self) -> Iterator[str]:
        """Between a settled pause and the resume nothing of the run begins."""
        paused: set[str] = set()
        for line in self.lines:
            if line.kind == "settled":
                paused.add(line["run"])
            elif line.kind == "resume asked":
                paused.discard(line["run"])
            elif line.kind == "begin" and _run_of(line["key"]) in paused and not self._was_stopped(line):
                yield f"step {line['key']} began (line {line.number}) while its run was paused"

    def _callbacks(self) -> Iterator[str]:
        called = Counter(line.facts.get("run") or line.facts["key"] for line in self.of("callback"))
        for run, count in called.items():
            if count > 1:
                yield f"the callback of {run} was called {count} times"
        names = {plan.key if plan.cancels else plan.run_id for plan in self.plans}
        names -= {plan.run_id for plan in self.plans if plan.statuses == (RunStatus.CANCELLED,)}
        self.figures["callbacks lost with their worker (they are called at most once)"] = len(names - set(called))


def _decided(ask: Any, request: dict[str, Any], told: dict[str, Any], closings: int) -> Iterator[str]:
    votes, name = _voters(request), request["id"]
    people = [by for by, _ in votes]
    if closings != 1:
        yield f"request {name} was decided {closings} times"
    if len(set(people)) != len(people):
        yield f"request {name} counts a person twice: {votes}"
    if told["outcome"] != request["status"] or [tuple(one) for one in told["votes"]] != votes:
        yield f"request {name} is {request['status']} with {votes}, its run was told {told}"
    if request["status"] not in ask.outcomes:
        yield f"request {name} is {request['status']}, not {' or '.join(ask.outcomes)}"
    yes, no = (sum(approved is one for _, approved in votes) for one in (True, False))
    if (request["status"] == "approved") != (yes >= ask.required) or (yes >= ask.required and no >= ask.threshold):
        yield f"request {name} is {request['status']} with {votes}"


def _voters(request: dict[str, Any]) -> list[tuple[str, bool]]:
    return [(one["by"], one["approved"]) for one in json.loads(request["responses"])]


def _run_of(key: str) -> str:
    return key.rpartition(":")[0]


def _rows(connection: apsw.Connection, sql: str, key: str | None) -> dict[Any, dict[str, Any]]:
    cursor = connection.execute(sql)
    found: list[tuple[Any, ...]] = []
    names: list[str] = []
    for row in cursor:
        names = names or [column[0] for column in cursor.get_description()]
        found.append(row)
    dicts = [dict(zip(names, row, strict=True)) for row in found]
    return {number if key is None else one[key]: one for number, one in enumerate(dicts)}


def place_and_digest(copy: Path) -> tuple[int, str]:
    """At which entry a copy is, and a digest of everything in it."""
    connection = apsw.Connection(str(copy), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        connection.execute("BEGIN")
        version = int(connection.execute(f"SELECT version FROM {MARK}").get)
        told = hashlib.sha256()
        sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
        for (table,) in connection.execute(sql).fetchall():
            columns = "chain" if table == MARK else "*"
            rows = sorted(map(repr, connection.execute(f"SELECT {columns} FROM {table}")))
            told.update(repr((table, rows)).encode())
        return version, told.hexdigest()
    finally:
        connection.close()
