"""What was told against what the tables hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import apsw

from tests.crash.checks import problems_in
from tests.lab.callers import named, person_of
from tests.lab.harness import Violation
from tests.lab.linearizable import Call, Explanation, NotLinearizable, explain
from tests.lab.specifications import Rules, RunSpecification, StartSpecification

_RUN = "SELECT key, status, cancel, pause_at FROM runs WHERE id = ?"
_REQUEST = "SELECT status, responses, answer FROM requests WHERE run = ?"
_RESULT = "SELECT value FROM journal WHERE run = ? AND type = 'run.completed'"
_STARTED = """
SELECT r.idempotency_key, j.value, r.id FROM runs r JOIN journal j ON j.run = r.key AND j.type = 'run.started'
"""


def judge(
    rules: Rules, calls: Sequence[Call], end: float, connection: apsw.Connection, run_id: str
) -> Explanation[Any]:
    """Find an order of the calls that explains what was told, and what the tables hold in the end.

    Raises:
        Violation: there is none.
    """
    if wrong := problems_in(connection):
        raise Violation("; ".join(wrong[:5]))
    specification: Any
    facts: tuple[Any, ...]
    if rules.kind == "start":
        rows: list[Any] = connection.execute(_STARTED).fetchall()
        facts = tuple((key, json.loads(value), name) for key, value, name in rows)
        ids = {call.reply[1] for call in calls if call.is_heard} | {name for _, _, name in facts}
        specification = StartSpecification(tuple(sorted(ids)))
    else:
        specification, facts = RunSpecification(rules), _facts(rules, connection, run_id)
    read = Call("the tables", 0, ("file", facts), end, end, True)
    try:
        return explain([*calls, read], specification)
    except NotLinearizable as error:
        raise Violation(f"{rules}: {error}") from None


def _facts(rules: Rules, connection: apsw.Connection, run_id: str) -> tuple[Any, ...]:
    runs: list[Any] = connection.execute(_RUN, (run_id,)).fetchall()
    ((key, status, cancel, pause_at),) = runs
    requests: list[Any] = connection.execute(_REQUEST, (key,)).fetchall()
    if len(requests) > 1:
        raise Violation(f"one question was asked {len(requests)} times: {requests}")
    outcome, answer = "", None
    votes: tuple[tuple[str, bool], ...] = ()
    for known, responses, stored in requests:
        outcome = known
        people = tuple((person_of(one["by"]), one["approved"]) for one in json.loads(responses))
        if rules.kind == "approval":
            votes = people
        elif stored is not None:
            answer = (json.loads(stored), people[0][0])
    results: list[Any] = connection.execute(_RESULT, (key,)).fetchall()
    value = named(json.loads(results[0][0])) if results else None
    return status, cancel == "cancelling", pause_at is not None, outcome, votes, answer, value
