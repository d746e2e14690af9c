"""The routes about runs: start, list, read, steer, delete."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.api.samples import API, call, lines_of, started
from tests.server.security.world import world


async def test_start_answers_where_the_run_is() -> None:
    """A start gives 201, the run and its address."""
    async with world() as made:
        answer = await call(made, "operator", "POST", "/runs", json={"workflow": "api-count", "input": 2})
        assert answer.status_code == 201
        assert answer.headers["location"] == f"{API}/runs/{answer.json()['id']}"


async def test_get_gives_the_result() -> None:
    """A completed run is answered with its result."""
    async with world() as made:
        run = await started(made, "api-count", 2)
        found = (await call(made, "viewer", "GET", f"/runs/{run}")).json()
        assert (found["status"], found["result"], found["requests"]) == ("completed", 2, [])


async def test_input_may_be_left_out() -> None:
    """Without an input the workflow's default counts."""
    async with world() as made:
        run = await started(made, "api-count")
        assert (await call(made, "viewer", "GET", f"/runs/{run}")).json()["result"] == 3


@pytest.mark.parametrize(
    "value",
    [2**64 + 1, 9007199254740993, -0.5, "\x00\u2028 \U0001f600", [], {"": {"a": None}}, True],
    ids=["beyond 64 bits", "beyond 2^53", "fraction", "odd characters", "empty", "empty key", "boolean"],
)
async def test_values_come_back_exactly(value: Any) -> None:
    """What goes in as JSON comes out as the same JSON, in the result and in the log."""
    async with world() as made:
        run = await started(made, "api-echo", value)
        assert (await call(made, "operator", "GET", f"/runs/{run}")).json()["result"] == value
        lines = await lines_of(made, run)
        assert lines[0]["fields"] == {"value": value}


async def test_unknown_workflow() -> None:
    """A workflow that the server does not know is 404, with the names of those it knows."""
    async with world() as made:
        answer = await call(made, "operator", "POST", "/runs", json={"workflow": "nope"})
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown-workflow")


async def test_wrong_input_names_its_path() -> None:
    """An input that does not fit is 422 with the path of what is wrong."""
    async with world() as made:
        answer = await call(made, "operator", "POST", "/runs", json={"workflow": "api-count", "input": "x"})
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["errors"][0][0] == "$"


async def test_input_of_a_workflow_without_one() -> None:
    """An input for a workflow that takes none is 400."""
    async with world() as made:
        answer = await call(made, "operator", "POST", "/runs", json={"workflow": "api-question", "input": 1})
        assert (answer.status_code, answer.json()["code"]) == (400, "workflow-definition")


async def test_options_are_kept() -> None:
    """Options come in the wire's names."""
    async with world() as made:
        run = await started(made, "api-ask", options={"labels": {"team": "a"}, "retry": {"attempts": 1, "delayMs": 5}})
        assert (await call(made, "viewer", "GET", f"/runs/{run}")).json()["labels"] == {"team": "a"}


@pytest.mark.parametrize(
    "options",
    [{"onComplete": "print"}, {"timeout": {"ms": -1}}, {"nope": 1}, {"labels": {"": "x"}}, {"retry": {"delay": 1}}],
    ids=["function", "negative", "unknown", "label", "unknown inside"],
)
async def test_wrong_options(options: dict[str, Any]) -> None:
    """Options that make no sense are 4xx, with the name of the option."""
    async with world() as made:
        answer = await call(made, "operator", "POST", "/runs", json={"workflow": "api-ask", "options": options})
        assert answer.status_code in (400, 422), answer.text


async def test_idempotency_key_of_options() -> None:
    """The same `idempotencyKey` and input give the same run with 200; another input is a conflict."""
    async with world() as made:
        body = {"workflow": "api-ask", "input": "a", "options": {"idempotencyKey": "k"}}
        first = await call(made, "operator", "POST", "/runs", json=body)
        second = await call(made, "operator", "POST", "/runs", json=body)
        third = await call(made, "operator", "POST", "/runs", json=body | {"input": "b"})
        assert (first.status_code, second.status_code, third.status_code) == (201, 200, 409)
        assert first.json()["id"] == second.json()["id"]
        assert "location" not in second.headers


async def test_list_filters() -> None:
    """Every filter of the list counts."""
    async with world() as made:
        one = await started(made, "api-ask", "alpha", options={"labels": {"team": "a"}})
        two = await started(made, "api-count", 1)

        async def listed(**query: Any) -> list[str]:
            page = (await call(made, "viewer", "GET", "/runs", params=query)).json()
            return [run["id"] for run in page["items"]]

        assert await listed() == [two, one]
        assert await listed(status="awaiting") == [one]
        assert await listed(status=["awaiting", "completed"]) == [two, one]
        assert await listed(workflow="api-count") == [two]
        assert await listed(label="team=a") == [one]
        assert await listed(text=one[4:12]) == await listed(text=one[4:12])
        assert await listed(startedAfter="2030-01-01T00:00:00Z") == []
        assert await listed(startedBefore="2030-01-01T00:00:00Z") == [two, one]
        assert await listed(parent=one) == []


async def test_pages_hold_every_run_once() -> None:
    """Following `nextCursor` gives every run once, newest first."""
    async with world() as made:
        ids = [await started(made, "api-count", 0) for _ in range(7)]
        found: list[str] = []
        cursor: str | None = None
        while True:
            query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
            page = (await call(made, "viewer", "GET", "/runs", params=query)).json()
            found += [run["id"] for run in page["items"]]
            cursor = page["nextCursor"]
            if cursor is None:
                break
        assert found == ids[::-1]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "limit=x", "status=odd", "label=team", "cursor=x", "startedAfter=yesterday",
     "startedAfter=2026-01-01T00:00:00", "newest=maybe"],
)  # fmt: skip
async def test_wrong_queries(query: str) -> None:
    """A query that makes no sense is 4xx, never ignored."""
    async with world() as made:
        path = "/runs/x/logs" if query.startswith("newest") else "/runs"
        answer = await call(made, "viewer", "GET", f"{path}?{query}")
        assert answer.status_code in (400, 422), answer.text


async def test_run_ids_may_be_shortened() -> None:
    """The beginning of an id is enough while it is unambiguous."""
    async with world() as made:
        run = await started(made, "api-count", 0)
        assert (await call(made, "viewer", "GET", f"/runs/{run[:-2]}")).json()["id"] == run


@pytest.mark.parametrize("verb", ["GET ", "DELETE ", "GET /steps", "GET /logs", "GET /events", "POST /pause",
                                  "POST /resume", "POST /cancel", "POST /retry", "POST /fork"])  # fmt: skip
async def test_unknown_runs(verb: str) -> None:
    """A run that is not there is 404 for every verb."""
    async with world() as made:
        await made.add_person("everybody", "operator", "approver", "admin")
        method, path = verb.split(" ")
        answer = await call(made, "everybody", method, f"/runs/none{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "run-not-found")


async def test_steps_and_logs() -> None:
    """The journal's view and the log of a run."""
    async with world() as made:
        run = await started(made, "api-ask", "x")
        steps = (await call(made, "viewer", "GET", f"/runs/{run}/steps")).json()["items"]
        assert [(one["kind"], one["status"]) for one in steps] == [("step", "completed"), ("request", "running")]
        lines = await lines_of(made, run)
        assert [line["message"] for line in lines] == ["asking about x"]
        after = lines[0]["number"]
        assert (await call(made, "viewer", "GET", f"/runs/{run}/logs?after={after}")).json()["items"] == []
        assert len((await call(made, "viewer", "GET", f"/runs/{run}/logs?newest=true")).json()["items"]) == 1


async def test_pause_and_resume() -> None:
    """Pause and resume answer with the run; doing it twice is a conflict."""
    async with world() as made:
        run = await started(made, "api-ask")
        paused = await call(made, "operator", "POST", f"/runs/{run}/pause", json={"reason": "lunch"})
        assert [one["kind"] for one in paused.json()["waitingOn"]] == ["approval", "paused"]
        assert (await call(made, "operator", "POST", f"/runs/{run}/pause")).status_code == 409
        resumed = await call(made, "operator", "POST", f"/runs/{run}/resume")
        assert [one["kind"] for one in resumed.json()["waitingOn"]] == ["approval"]
        assert (await call(made, "operator", "POST", f"/runs/{run}/resume")).json()["code"] == "invalid-transition"


async def test_cancel_keeps_who_and_why() -> None:
    """The one who cancels is the signed-in person."""
    async with world() as made:
        run = await started(made, "api-ask")
        answer = await call(made, "operator", "POST", f"/runs/{run}/cancel", json={"reason": "no", "graceful": False})
        found = answer.json()
        assert (found["status"], found["cancelReason"], found["cancelledBy"]) == ("cancelled", "no", "operator")
        assert (await call(made, "operator", "POST", f"/runs/{run}/cancel")).status_code == 409


async def test_retry_and_fork_make_new_runs() -> None:
    """Both answer 201 with the new run, which names its origin."""
    async with world() as made:
        run = await started(made, "api-fail")
        for verb, body in (("retry", None), ("fork", {"afterStep": "add_one"})):
            answer = await call(made, "operator", "POST", f"/runs/{run}/{verb}", json=body)
            assert answer.status_code == 201, answer.text
            assert answer.json()["origin"]["runId"] == run
            assert answer.headers["location"].endswith(answer.json()["id"])
        odd = await call(made, "operator", "POST", f"/runs/{run}/fork", json={"afterStep": "nope"})
        assert odd.status_code == 400


async def test_delete() -> None:
    """A final run is deleted with 204; one that is not final is a conflict."""
    async with world() as made:
        final, open_run = await started(made, "api-count", 0), await started(made, "api-ask")
        answer = await call(made, "admin", "DELETE", f"/runs/{final}")
        assert (answer.status_code, answer.content) == (204, b"")
        assert (await call(made, "viewer", "GET", f"/runs/{final}")).status_code == 404
        assert (await call(made, "admin", "DELETE", f"/runs/{open_run}")).status_code == 409


@pytest.mark.parametrize(
    ("person", "method", "path"),
    [
        ("viewer", "POST", "/runs"),
        ("approver", "POST", "/runs"),
        ("viewer", "POST", "/runs/x/pause"),
        ("approver", "POST", "/runs/x/cancel"),
        ("operator", "DELETE", "/runs/x"),
        ("operator", "POST", "/runs/prune"),
        ("operator", "POST", "/workers/x/evict"),
        ("operator", "POST", "/requests/x/approve"),
        ("admin", "POST", "/runs/x/approve"),
        ("viewer", "POST", "/requests/bulk"),
        ("approver", "POST", "/runs/bulk"),
    ],
)
async def test_wrong_roles(person: str, method: str, path: str) -> None:
    """Whoever's role does not grant it is told so, whatever the body."""
    async with world() as made:
        answer = await call(made, person, method, path)
        assert (answer.status_code, answer.json()["code"]) == (403, "not-permitted")


async def test_workflows() -> None:
    """The workflows with their schemas; one by its name."""
    async with world() as made:
        listed = (await call(made, "viewer", "GET", "/workflows")).json()["items"]
        one = (await call(made, "viewer", "GET", "/workflows/api-count")).json()
        assert one in listed
        assert one["inputSchema"] == {"default": 3, "type": "integer"} or one["inputSchema"] == {"type": "integer"}
        assert (await call(made, "viewer", "GET", "/workflows/nope")).status_code == 404
