"""What becomes of streams and requests when something unusual happens."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw
import pytest

from osprotocol import Cancel, Context, RunOptions, workflow
from osprotocol.protocol.events import Event
from tests.server.api.samples import call, started
from tests.server.security.world import RawStream, World, world


def stream_of(made: World, path: str) -> RawStream:
    return RawStream(made.app, f"/api/v1{path}", {"Authorization": f"Bearer {made.secrets['operator']}"})


async def test_an_event_that_cannot_be_told_stops_no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader of all streams survives any mistake: what comes after is told."""
    async with world() as made:
        hub = made.app.state.serving.hub
        stream = stream_of(made, "/events")
        await stream.until(b"retry:")
        take = hub._take

        def broken(event: Event) -> None:
            monkeypatch.setattr(hub, "_take", take)
            hub._head = event.cursor
            raise ValueError("cannot be told")

        monkeypatch.setattr(hub, "_take", broken)
        run = await started(made, "api-count", 1)
        await stream.until(f'"runId":"{run}"'.encode())
        await stream.close()


_CANCEL_AND_DELETE = """
import asyncio, sys
from osprotocol import connect

async def main():
    async with connect(sys.argv[1], worker=False) as client:
        run = await client.get(sys.argv[2])
        await run.cancel(graceful=False)
        await client.delete(run.id)

asyncio.run(main())
"""


async def test_a_stream_ends_when_its_run_is_deleted_before_its_end_was_read(tmp_path: Path) -> None:
    """Another process cancels and deletes a run while this one is busy: its stream says that the history is gone."""
    async with world(path=tmp_path / "runs.db") as made:
        run = await started(made, "api-ask")
        stream = stream_of(made, f"/runs/{run}/events")
        await stream.until(b"request.opened")
        subprocess.run(  # noqa: ASYNC221 - this process has to be busy
            [sys.executable, "-c", _CANCEL_AND_DELETE, str(tmp_path / "runs.db"), run], check=True, timeout=60
        )
        await stream.ended.wait()
        assert b'event: reset\ndata: {"reason":"history-gone"}' in stream.received


async def test_a_key_that_was_cut_short_is_not_good_for_another_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to a batch got lost; the same key with another batch is refused for each member, not called done."""

    async def lost(*arguments: Any) -> None:
        pass

    async with world() as made:
        run = await started(made, "api-ask")
        with monkeypatch.context() as patched:
            patched.setattr(made.books, "keep_reply", lost)
            await call(made, "operator", "POST", "/runs/bulk", json={"action": "pause", "runIds": [run]}, key="k")
        body = {"action": "cancel", "runIds": [run]}
        (result,) = (await call(made, "operator", "POST", "/runs/bulk", json=body, key="k")).json()["items"]
        assert (result["ok"], result["code"]) == (False, "duplicate-request")
        assert (await made.client.get(run)).status == "awaiting"


@workflow(name="trouble-vetoing", options=RunOptions(cancel=Cancel(before_cancel=lambda: False)))
async def vetoing(ctx: Context) -> bool:
    return (await ctx.wait_for_approval("Go on?")).approved


async def test_a_cancel_that_was_vetoed_is_vetoed_when_it_is_sent_again() -> None:
    """A repeated request says what the first one said, alone and in a batch: the run goes on."""
    async with world() as made:
        run = await started(made, "trouble-vetoing")
        for _ in range(2):
            answer = await call(made, "operator", "POST", f"/runs/{run}/cancel", json={}, key="k")
            assert (answer.status_code, answer.json()["code"]) == (409, "cancel-vetoed")


async def test_more_labels_than_a_run_has_are_refused() -> None:
    """A filter by hundreds of labels is the caller's mistake, not trouble of the database."""
    async with world() as made:
        labels = {f"label-{n}": "x" for n in range(1_500)}
        query = "&".join(f"label={name}=x" for name in labels)
        assert (await call(made, "viewer", "GET", f"/runs?{query}")).status_code == 400
        body = {"action": "pause", "filter": {"labels": labels}}
        assert (await call(made, "operator", "POST", "/runs/bulk", json=body)).status_code == 400


@pytest.mark.parametrize("instant", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "2099-01-01T00:00:00"])
async def test_an_instant_that_is_none_in_utc_is_refused(instant: str) -> None:
    """The end of a token's life has a time zone and lies in the years that can be written."""
    async with world() as made:
        body = {"user": "viewer", "roles": ["viewer"], "expiresAt": instant}
        answer = await call(made, "admin", "POST", "/tokens", content=json.dumps(body).encode(),
                            headers={"Content-Type": "application/json"})  # fmt: skip
        assert answer.status_code == 422


async def test_reading_goes_on_while_another_process_writes_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change waits for the other process; health and reads do not, readiness says so, and the change is made."""
    monkeypatch.setattr("osprotocol.server.routes.health.PATIENCE_S", 0.02)
    async with world(path=tmp_path / "runs.db") as made, made.http("operator") as http:
        other = apsw.Connection(str(tmp_path / "runs.db"))
        other.set_busy_timeout(10_000)
        other.execute("BEGIN IMMEDIATE")
        starting = asyncio.create_task(http.post("/api/v1/runs", json={"workflow": "api-count"}))
        for path in ("/healthz", "/api/v1/runs", "/healthz", "/api/v1/requests"):
            assert (await http.get(path)).status_code == 200
        assert (await http.get("/readyz")).status_code == 503
        assert not starting.done()
        other.execute("ROLLBACK")
        other.close()
        assert (await starting).status_code == 201
