"""The inbox, votes, answers and gates over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.api.samples import API, call, started
from tests.server.security.world import World, world


async def asked(made: World, topic: str = "it") -> tuple[str, str]:
    """A run that asks for an approval, and the request."""
    run = await started(made, "api-ask", topic)
    return run, (await made.question(run)).id


async def test_inbox() -> None:
    """The inbox holds what is open; a decided request is found with open=false."""
    async with world() as made:
        _, request = await asked(made)
        _, other = await asked(made)
        assert (await call(made, "approver", "POST", f"/requests/{other}/reject")).status_code == 200

        async def listed(**query: Any) -> list[str]:
            return [one["id"] for one in (await call(made, "viewer", "GET", "/requests", params=query)).json()["items"]]

        assert await listed() == [request]
        assert await listed(open="false") == [other]
        assert await listed(open="all") == [request, other]
        assert await listed(open="all", kind="input") == []
        assert await listed(open="all", run=other.rpartition("-")[0]) == [other]
        assert await listed(mine="true") == [request]


async def test_inbox_pages() -> None:
    """Following `nextCursor` gives every request once, oldest first."""
    async with world() as made:
        ids = [(await asked(made))[1] for _ in range(5)]
        found: list[str] = []
        query: dict[str, Any] = {"limit": 2}
        while True:
            page = (await call(made, "viewer", "GET", "/requests", params=query)).json()
            found += [one["id"] for one in page["items"]]
            if page["nextCursor"] is None:
                break
            query["cursor"] = page["nextCursor"]
        assert found == ids


@pytest.mark.parametrize(("verb", "status"), [("approve", "approved"), ("reject", "rejected")])
@pytest.mark.parametrize("by_run", [True, False], ids=["of the run", "by its id"])
async def test_vote(verb: str, status: str, by_run: bool) -> None:
    """A vote answers with the request as it is then; the voter is the signed-in person."""
    async with world() as made:
        run, request = await asked(made)
        path = f"/runs/{run}/{verb}" if by_run else f"/requests/{request}/{verb}"
        seen = (await call(made, "approver", "GET", f"/requests/{request}")).json()
        body = {"reason": "because", "seen": f"{seen['revision']}:{seen['digest']}"}
        answer = await call(made, "approver", "POST", path, json=body)
        assert (answer.status_code, answer.json()["status"]) == (200, status)
        assert [(one["by"], one["reason"]) for one in answer.json()["responses"]] == [("approver", "because")]


async def test_stale_vote() -> None:
    """A vote on something else than what is asked is refused."""
    async with world() as made:
        _, request = await asked(made)
        answer = await call(made, "approver", "POST", f"/requests/{request}/approve", json={"seen": "1:other"})
        assert (answer.status_code, answer.json()["code"]) == (409, "stale-request")


async def test_late_vote_is_told_the_outcome() -> None:
    """A vote on a decided request is 409 with the outcome that won."""
    async with world() as made:
        run, request = await asked(made)
        await call(made, "operator", "POST", f"/runs/{run}/pause")  # so that it does not end meanwhile
        assert (await call(made, "approver", "POST", f"/requests/{request}/approve")).status_code == 200
        answer = await call(made, "approver", "POST", f"/requests/{request}/reject")
        assert answer.status_code == 409
        late = (await call(made, "approver", "POST", f"/runs/{run}/approve")).json()
        assert (late["code"], late["facts"][1:]) == ("request-closed", [request, "approved", "approver"])


async def test_answer_of_an_input() -> None:
    """An answer that does not fit is 422 and changes nothing; one that fits goes to the code."""
    async with world() as made:
        run = await started(made, "api-question")
        wrong = await call(made, "approver", "POST", f"/runs/{run}/respond", json={"value": "many"})
        assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid-answer")
        assert wrong.json()["errors"][0][0] == "$"
        right = await call(made, "approver", "POST", f"/runs/{run}/respond", json={"value": 2**70})
        assert right.status_code == 200
        assert (await call(made, "operator", "GET", f"/runs/{run}")).json()["result"] == 2**70


async def test_respond_needs_a_value() -> None:
    """A body without `value` is 422, also when null would be a value."""
    async with world() as made:
        run = await started(made, "api-question")
        assert (await call(made, "approver", "POST", f"/runs/{run}/respond", json={})).status_code == 422
        assert (await call(made, "approver", "POST", f"/runs/{run}/respond")).status_code == 422


async def test_several_open_requests_have_to_be_named() -> None:
    """With two open approvals of a run, the vote on "the" approval is refused with their ids."""
    async with world() as made:
        run, request = await asked(made)
        gate = await call(made, "operator", "POST", f"/runs/{run}/requests", json={"kind": "approval", "prompt": "?"})
        answer = await call(made, "approver", "POST", f"/runs/{run}/approve")
        assert (answer.status_code, answer.json()["code"]) == (409, "ambiguous-request")
        assert answer.json()["facts"][3] == [request, gate.json()["id"]]


async def test_gates() -> None:
    """A gate is put on a run with 201 and answered like every request."""
    async with world() as made:
        run, _ = await asked(made)
        body = {"kind": "input", "prompt": "Which?", "schema": {"type": "integer", "minimum": 3}}
        gate = await call(made, "operator", "POST", f"/runs/{run}/requests", json=body)
        assert gate.status_code == 201
        assert gate.headers["location"] == f"{API}/requests/{gate.json()['id']}"
        path = f"/requests/{gate.json()['id']}/respond"
        assert (await call(made, "approver", "POST", path, json={"value": 2})).status_code == 422
        assert (await call(made, "approver", "POST", path, json={"value": 3})).json()["answer"] == 3


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "approval", "prompt": " "},
        {"kind": "approval", "prompt": "?", "schema": {}},
        {"kind": "input", "prompt": "?", "payload": 1},
        {"kind": "input", "prompt": "?", "timeoutMs": 0},
        {"kind": "approval", "prompt": "?", "config": {"approvers": ["a"], "requiredApprovals": 2}},
        {"kind": "attention", "prompt": "?"},
        {"kind": "approval"},
    ],
)
async def test_wrong_gates(body: dict[str, Any]) -> None:
    """A gate that nobody could answer is refused."""
    async with world() as made:
        run, _ = await asked(made)
        answer = await call(made, "operator", "POST", f"/runs/{run}/requests", json=body)
        assert answer.status_code in (400, 422), answer.text


async def test_no_gate_on_a_final_run() -> None:
    """A final run takes no gate."""
    async with world() as made:
        run = await started(made, "api-count", 0)
        answer = await call(made, "operator", "POST", f"/runs/{run}/requests", json={"kind": "input", "prompt": "?"})
        assert (answer.status_code, answer.json()["code"]) == (409, "invalid-transition")


async def test_unknown_request() -> None:
    """A request that is not there is 404 for every verb."""
    async with world() as made:
        assert (await call(made, "viewer", "GET", "/requests/none-1")).json()["code"] == "request-not-found"
        told = (await call(made, "viewer", "GET", "/requests/none")).json()["detail"]
        assert told == "there is no request 'none'; 'osp inbox' shows those that are open"
        for verb in ("approve", "reject"):
            assert (await call(made, "approver", "POST", f"/requests/none-1/{verb}")).status_code == 404
        answer = await call(made, "approver", "POST", "/requests/none-1/respond", json={"value": 1})
        assert answer.status_code == 404
