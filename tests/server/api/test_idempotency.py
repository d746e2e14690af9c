"""`Idempotency-Key`: done once, answered the same (B41)."""

from __future__ import annotations

import asyncio

import pytest

from osprotocol import _limits
from osprotocol.server import replies
from osprotocol.server.replies import KEPT_BYTES
from tests.server.api.samples import API, call, started
from tests.server.security.world import World, world

BODY = {"workflow": "api-ask", "input": "once"}


async def runs(made: World) -> int:
    return len((await made.client.list()).items)


async def test_replay_gives_the_first_answer() -> None:
    """The same key and body: one run, the same status, body and address, and a header that says so."""
    async with world() as made:
        first = await call(made, "operator", "POST", "/runs", json=BODY, key="k")
        second = await call(made, "operator", "POST", "/runs", json=BODY, key="k")
        assert await runs(made) == 1
        assert (second.status_code, second.content) == (first.status_code, first.content)
        assert second.headers["location"] == first.headers["location"]
        assert second.headers["idempotency-replayed"] == "true"
        assert "idempotency-replayed" not in first.headers


async def test_another_body_is_refused() -> None:
    """The same key with another body is 409 and changes nothing."""
    async with world() as made:
        await call(made, "operator", "POST", "/runs", json=BODY, key="k")
        answer = await call(made, "operator", "POST", "/runs", json=BODY | {"input": "twice"}, key="k")
        assert (answer.status_code, answer.json()["code"], answer.json()["facts"][0]) == (409, "duplicate-request", "k")
        assert await runs(made) == 1


async def test_scope_is_person_and_path() -> None:
    """The key of another person, or for another path, is another key."""
    async with world() as made:
        await made.add_person("second", "operator")
        await call(made, "operator", "POST", "/runs", json=BODY, key="k")
        await call(made, "second", "POST", "/runs", json=BODY, key="k")
        assert await runs(made) == 2
        ids = [run.id for run in (await made.client.list()).items]
        for run in ids:
            assert (await call(made, "operator", "POST", f"/runs/{run}/pause", key="k")).status_code == 200


async def test_a_narrower_token_does_not_get_the_answer() -> None:
    """A token of the same person that sees fewer workflows does not get what another was answered."""
    async with world() as made:
        await made.add_token("narrow", "operator", "operator", workflows=["guarded"])
        run = await started(made, "api-ask")
        await call(made, "operator", "POST", f"/runs/{run}/pause", key="k")
        assert (await call(made, "narrow", "POST", f"/runs/{run}/pause", key="k")).status_code == 404
        body = {"action": "pause", "runIds": [run]}
        await call(made, "operator", "POST", "/runs/bulk", json=body, key="k")
        assert (await call(made, "narrow", "POST", "/runs/bulk", json=body, key="k")).status_code == 409


async def test_errors_are_not_kept() -> None:
    """What was refused may be tried again under its key."""
    async with world() as made:
        run = await started(made, "api-ask")
        assert (await call(made, "operator", "POST", f"/runs/{run}/resume", key="k")).status_code == 409
        await call(made, "operator", "POST", f"/runs/{run}/pause")
        answer = await call(made, "operator", "POST", f"/runs/{run}/resume", key="k")
        assert answer.status_code == 200
        assert "idempotency-replayed" not in answer.headers


async def test_at_the_same_time() -> None:
    """Twenty requests with one key at once: one run, twenty equal answers."""
    async with world() as made, made.http("operator") as http:
        headers = {"Idempotency-Key": "k"}
        answers = await asyncio.gather(*(http.post(f"{API}/runs", json=BODY, headers=headers) for _ in range(20)))
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.content for answer in answers}) == 1
        assert await runs(made) == 1


@pytest.mark.parametrize("verb", ["start", "pause", "cancel", "retry", "fork", "vote", "gate", "evict"])
async def test_crash_between_commit_and_answer(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The change was committed, its answer lost: the repeated request changes nothing and tells the state now."""
    async with world() as made:
        run = await started(made, "api-fail" if verb in ("retry", "fork") else "api-ask")
        workers = await made.client.workers()
        person, path, body = {
            "start": ("operator", "/runs", BODY),
            "pause": ("operator", f"/runs/{run}/pause", {}),
            "cancel": ("operator", f"/runs/{run}/cancel", {}),
            "retry": ("operator", f"/runs/{run}/retry", {}),
            "fork": ("operator", f"/runs/{run}/fork", {"afterStep": "add_one"}),
            "vote": ("approver", f"/runs/{run}/approve", {}),
            "gate": ("operator", f"/runs/{run}/requests", {"kind": "approval", "prompt": "Sure?"}),
            "evict": ("admin", f"/workers/{workers[0].id}/evict", {}),
        }[verb]

        async def lost(*anything: object) -> None:
            raise asyncio.CancelledError

        with monkeypatch.context() as patch:
            patch.setattr(type(made.books), "keep_reply", lost)
            with pytest.raises(asyncio.CancelledError):
                await call(made, person, "POST", path, json=body, key="k")
        await made.client.clock.settle()
        before, actions = await runs(made), await made.actions()
        again = await call(made, person, "POST", path, json=body, key="k")
        assert again.status_code == (201 if verb in ("start", "retry", "fork", "gate") else 200), again.text
        assert again.headers["idempotency-replayed"] == "true"
        assert (await runs(made), await made.actions()) == (before, actions)
        if verb in ("retry", "fork"):
            assert again.json()["origin"]["runId"] == run
        if verb == "gate":
            assert again.json()["prompt"] == "Sure?"
        third = await call(made, person, "POST", path, json=body, key="k")
        assert third.content == again.content


@pytest.mark.parametrize("key", ["", "x" * (_limits.IDEMPOTENCY_KEY_CHARACTERS + 1), "tab\there", "\u00e9".encode()])
async def test_wrong_keys(key: str | bytes) -> None:
    """A key is 1 to 256 printable ASCII characters."""
    async with world() as made:
        answer = await call(made, "operator", "POST", "/runs", json=BODY, headers={"Idempotency-Key": key})
        assert answer.status_code == 400
        assert await runs(made) == 0


async def test_a_large_answer_is_not_kept() -> None:
    """The repeated request is answered with the state as it is then; the change is not made again."""
    async with world() as made:
        run = await started(made, "api-ask")
        gate = {"kind": "approval", "prompt": "Go on?", "payload": "x" * 100_000}
        first = await call(made, "operator", "POST", f"/runs/{run}/requests", json=gate, key="k")
        second = await call(made, "operator", "POST", f"/runs/{run}/requests", json=gate, key="k")
        assert second.headers["idempotency-replayed"] == "true"
        assert (second.status_code, second.content) == (first.status_code, first.content)
        assert len(second.content) > KEPT_BYTES
        other = await call(made, "operator", "POST", f"/runs/{run}/requests", json=gate | {"payload": 1}, key="k")
        assert other.status_code == 409
        assert len((await made.client.requests(run_id=run)).items) == 2
        kept: int | None = made.books._rows("SELECT sum(length(body)) FROM replies")[0][0]
        assert (kept or 0) < KEPT_BYTES


async def test_many_are_not_changed_again_when_the_answer_was_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter could find others by then: 409 says that it was done."""
    monkeypatch.setattr(replies, "KEPT_BYTES", 10)
    async with world() as made:
        await started(made, "api-ask")
        body = {"action": "pause", "filter": {"workflow": "api-ask"}}
        assert (await call(made, "operator", "POST", "/runs/bulk", json=body, key="k")).json()["items"][0]["ok"]
        later = await started(made, "api-ask")
        answer = await call(made, "operator", "POST", "/runs/bulk", json=body, key="k")
        assert (answer.status_code, answer.json()["code"]) == (409, "duplicate-request")
        assert "was done before" in answer.json()["detail"]
        assert (await made.client.get(later)).status == "awaiting"
