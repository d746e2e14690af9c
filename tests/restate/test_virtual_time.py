"""`testing.connect(url=...)`: virtual time and a copy of its own on a ledger."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from osprotocol import Context, testing
from osprotocol.errors import InvalidOptionError
from osprotocol.workflow import Workflow, known_workflows
from tests.restate.nodes import RestateNode


async def _sleeps(ctx: Context) -> str:
    await ctx.sleep(timedelta(days=30))
    return "awake"


@pytest.fixture
def sleeper() -> Iterator[Workflow[None, str]]:
    """A workflow that sleeps for thirty days."""
    workflow: Workflow[None, str] = Workflow(_sleeps, name="restate-sleeps")
    known_workflows()[workflow.name] = workflow
    yield workflow
    del known_workflows()[workflow.name]


@pytest.mark.restate
async def test_a_long_sleep_takes_no_time(restate_node: RestateNode, sleeper: Workflow[None, str]) -> None:
    """With autojump a sleep of thirty days is over when nothing else happens."""
    async with testing.connect(url=restate_node.url(secrets.token_hex(8))) as client:
        began = client.clock.moment
        assert await (await client.create_run(sleeper).start()).result == "awake"
        assert client.clock.moment - began >= timedelta(days=30)


@pytest.mark.restate
async def test_a_client_beside_another_sees_its_runs(
    restate_node: RestateNode, sleeper: Workflow[None, str], tmp_path: Path
) -> None:
    """With the same copy, and with another one of the same ledger."""
    async with testing.connect(url=restate_node.url(secrets.token_hex(8)), autojump=False) as client:
        execution = await client.create_run(sleeper).start()
        async with testing.connect(beside=client, worker=False) as beside:
            assert beside.path == client.path
            assert (await beside.get(execution.id)).id == execution.id
        async with testing.connect(beside=client, worker=False, path=tmp_path / "copy.db") as far:
            assert far.path == tmp_path / "copy.db"
            assert (await far.get(execution.id)).id == execution.id


@pytest.mark.restate
async def test_the_copy_goes_with_the_client_and_the_runs_stay(
    restate_node: RestateNode, sleeper: Workflow[None, str]
) -> None:
    """A client made without a path leaves no file behind; the ledger has the run."""
    url = restate_node.url(secrets.token_hex(8))
    async with testing.connect(url=url, autojump=False) as client:
        execution = await client.create_run(sleeper).start()
        folder = client.path.parent
    assert not folder.exists()
    async with testing.connect(url=url, seed=1) as client:
        assert await (await client.get(execution.id)).result == "awake"


@pytest.mark.parametrize("url", ["runs.db", "sqlite:runs.db", "http://127.0.0.1:1"])
def test_another_url_is_refused(url: str) -> None:
    """A database has a path, and a server its own time."""
    with pytest.raises(InvalidOptionError, match="no ledger's"):
        testing.connect(url=url)
