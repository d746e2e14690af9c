"""What somebody could still learn or do: by asking cleverly, by a stream that stays open, by text made to be slow."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from osprotocol._lifecycle.schema import problems_in
from osprotocol.errors import StorageFullError
from osprotocol.server.identity import Gate
from osprotocol.server.redaction import redact_text
from tests.server.api.samples import call
from tests.server.security.world import RawStream, World, world

MEGABYTE = 1_048_576


# ------------------------------------------------------------------------ limited tokens


async def limited(made: World) -> None:
    await made.add_token("limited", "operator", "operator", workflows=["guarded", "gone"])


@pytest.mark.parametrize("asked", ["run={}", "request={}-2"])
async def test_the_audit_log_does_not_tell_that_a_hidden_run_exists(asked: str) -> None:
    """S3: asked for a run that a limited token does not see, it answers as for a run that there never was."""
    async with world() as made:
        await limited(made)
        hidden = await made.start("operator", "secluded", "x")
        answers = []
        for run in (hidden, "0" * len(hidden)):
            found = await call(made, "limited", "GET", f"/audit?limit=1&{asked.format(run)}")
            answers.append((found.status_code, found.json()))
        assert answers[0] == answers[1]


async def test_a_limited_token_sees_and_revokes_itself_only() -> None:
    """S3: other tokens of the same person, which tell of other workflows, are not there for it."""
    async with world() as made:
        await limited(made)
        other = await made.add_token("other", "operator", "operator", workflows=["secluded"])
        seen = (await call(made, "limited", "GET", "/tokens")).json()["items"]
        assert [token["label"] for token in seen] == ["limited"]
        assert (await call(made, "limited", "DELETE", f"/tokens/{other}")).status_code == 404
        assert (await call(made, "other", "GET", "/me")).status_code == 200
        assert (await call(made, "limited", "DELETE", f"/tokens/{seen[0]['id']}")).status_code == 204
        assert (await call(made, "limited", "GET", "/me")).status_code == 401


async def test_an_unknown_workflow_names_no_hidden_ones() -> None:
    """S3: the error that lists what could be started lists what that token sees."""
    async with world() as made:
        await limited(made)
        answer = await call(made, "limited", "POST", "/runs", json={"workflow": "gone", "input": "x"})
        assert answer.status_code == 404
        assert answer.json()["facts"] == ["gone", ["guarded"]]


# --------------------------------------------------------------------- streams that stay


def gate_of(made: World) -> Gate:
    gate: Gate = made.app.state.identify.__self__
    return gate


async def guess(made: World, times: int = 70) -> None:
    """Send wrong tokens from the address that everybody here has."""
    async with made.http() as thief:
        answers = [await thief.get("/api/v1/me", headers={"Authorization": "Bearer nonsense"}) for _ in range(times)]
    assert answers[-1].status_code == 429


async def test_guessing_keeps_no_stream_open() -> None:
    """S20: the stream of a revoked token ends also while its address is refused for wrong tokens."""
    async with world() as made:
        token = await made.add_token("leaked", "operator", "operator")
        stream = RawStream(made.app, "/api/v1/events", {"Authorization": f"Bearer {made.secrets['leaked']}"})
        await stream.until(b"retry:")
        await guess(made)
        await made.books.revoke_token(token, by="admin")
        gate_of(made).changed()
        await stream.ended.wait()


async def test_guessing_locks_nobody_out() -> None:
    """S23: a token that is good works also while others guess from the same address, behind one proxy for example."""
    async with world() as made:
        await guess(made)
        assert (await call(made, "operator", "GET", "/me")).status_code == 200


async def test_a_stream_ends_when_its_person_gets_other_roles() -> None:
    """S20: who becomes a viewer no longer gets what only others see, not even on a stream that was open before."""
    async with world() as made:
        await made.add_person("ann", "viewer", "operator")
        stream = RawStream(made.app, "/api/v1/events", {"Authorization": f"Bearer {made.secrets['ann']}"})
        await stream.until(b"retry:")
        assert (await call(made, "admin", "PATCH", "/users/ann", json={"roles": ["viewer"]})).status_code == 200
        await stream.ended.wait()


async def test_a_session_reads_while_nothing_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk keeps nobody from looking: that a session is in use need not be written."""
    async with world() as made:
        browser = await made.browser("viewer")
        await made.client.clock.advance(timedelta(minutes=2))

        async def full(run: Any, **named: Any) -> None:
            raise StorageFullError("runs.db", "full")

        monkeypatch.setattr(made.books._engine.writer, "execute", full)
        assert (await browser.get("/api/v1/runs")).status_code == 200


# -------------------------------------------------------------------------- slow texts


@pytest.mark.parametrize(
    "piece", ["eyJ-", "a-", "a_", "osp_a", "sk-", "password", "password='", "://a:", "-----BEGIN A "]
)
def test_no_text_is_slow_to_clean(piece: str) -> None:
    """A megabyte of anything is cleaned in time in proportion to its length: else one log line stops the server."""
    text = piece * (MEGABYTE // len(piece))
    assert len(redact_text(text, fully=True)) > 0


@pytest.mark.parametrize(
    "text", ["--password=hunter2", "my-db_password: hunter2", "X-Api-Key=hunter2", "a.secret='hunter2'"]
)
def test_names_before_a_secret_may_have_any_shape(text: str) -> None:
    """What follows a telling name is blacked out for viewers, however the name is put together."""
    assert "hunter2" not in redact_text(text, fully=True)


def test_no_pattern_of_a_schema_is_slow() -> None:
    """A pattern that whoever opened a gate chose, and an answer made for it, do not hold up the engine's commits."""
    assert problems_in("a" * 100_000 + "!", {"type": "string", "pattern": "^(a+)+$"}) == (("$", "must match ^(a+)+$"),)
    assert problems_in("aaa", {"type": "string", "pattern": "^(a+)+$"}) == ()
    assert problems_in("b", {"type": "string", "pattern": "(?=a)a"}) == ()  # another dialect: the worker judges


@pytest.mark.parametrize("secret", ["hunter2", f"osp_{'a' * 12}_{'b' * 52}"])
async def test_a_search_finds_nothing_by_what_is_blacked_out(secret: str) -> None:
    """A viewer who searches for parts of a secret does not learn whether they are right."""
    async with world() as made:
        await made.start("operator", "breaking", f"password={secret}")
        for text, count in ((secret, 0), (secret[:4], 0), ("cannot use", 1), ("BREAKING", 1)):
            found = await call(made, "viewer", "GET", "/runs", params={"text": text})
            assert len(found.json()["items"]) == count, text


# ------------------------------------------------------------------------ exact for all


async def test_a_schema_is_whole_for_viewers() -> None:
    """Names in the schema of a request are no secrets: a viewer gets the same schema as everybody."""
    schema = {"type": "object", "properties": {"password": {"type": "string"}}}
    async with world() as made:
        run = await made.start("operator", "guarded", "x")
        gate = {"kind": "input", "prompt": "Which?", "schema": schema}
        asked = (await call(made, "operator", "POST", f"/runs/{run}/requests", json=gate)).json()
        seen = await call(made, "viewer", "GET", f"/requests/{asked['id']}")
        assert seen.json()["schema"] == schema


async def test_numbers_stay_exact_for_viewers() -> None:
    """A result that is cleaned keeps its other values to the last digit."""
    value = {"password": "hunter2", "big": 2**70 + 1, "small": 5e-324, "share": 0.1 + 0.2, "whole": 1e22}
    async with world() as made:
        run = await made.start("operator", "echoing", value)
        text = (await call(made, "viewer", "GET", f"/runs/{run}")).text
        assert json.loads(text)["result"] == {**value, "password": "[redacted]"}
