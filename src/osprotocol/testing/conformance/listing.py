"""Section 1: lists, bulk verbs, deleting."""

import itertools
from datetime import timedelta

from osprotocol.context import Context
from osprotocol.errors import AmbiguousRunIdError, InvalidOptionError, InvalidTransitionError, RunNotFoundError
from osprotocol.protocol.run import RunOptions, RunStatus
from osprotocol.testing.conformance.harness import CLOCK, Harness, refused
from osprotocol.testing.conformance.scenario import scenario
from osprotocol.workflow import Workflow


def _two(h: Harness) -> tuple[Workflow[str, str], Workflow[str, str]]:
    async def asks(ctx: Context, what: str) -> str:
        ctx.report_progress(1, 2, f"asking {what}")
        return (await ctx.wait_for_approval(what)).outcome

    async def ends(ctx: Context, what: str) -> str:
        if what == "bad":
            raise ValueError(what)
        return what

    return h.define(asks), h.define(ends)


@scenario(1)
async def runs_are_listed_newest_first(h: Harness) -> None:
    """client.list gives runs newest first, a page at a time, and every run once."""
    _, ends = _two(h)
    started = [(await h.start(ends, str(n))).id for n in range(7)]
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await h.client.list(limit=3, cursor=cursor)
        found += [one.id for one in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == started[::-1]


@scenario(1)
async def a_new_run_does_not_shift_a_page(h: Harness) -> None:
    """A run that is started between two pages neither repeats nor hides an older one."""
    _, ends = _two(h)
    started = [(await h.start(ends, str(n))).id for n in range(4)]
    first = await h.client.list(limit=2)
    await h.start(ends, "new")
    second = await h.client.list(limit=2, cursor=first.next_cursor)
    assert [one.id for one in (*first.items, *second.items)] == started[::-1]


@scenario(1)
async def lists_are_filtered_by_status_and_workflow(h: Harness) -> None:
    """client.list filters by one or several statuses and by workflow."""
    asks, ends = _two(h)
    waiting, done, bad = await h.start(asks, "a"), await h.start(ends, "a"), await h.start(ends, "bad")
    assert [one.id for one in (await h.client.list(status="awaiting")).items] == [waiting.id]
    both = await h.client.list(status=[RunStatus.COMPLETED, RunStatus.FAILED])
    assert [one.id for one in both.items] == [bad.id, done.id]
    assert [one.id for one in (await h.client.list(workflow=asks)).items] == [waiting.id]
    assert [one.id for one in (await h.client.list(workflow=ends.name, status="failed")).items] == [bad.id]


@scenario(1)
async def lists_are_filtered_by_labels(h: Harness) -> None:
    """client.list filters by labels, all of which have to match."""
    _, ends = _two(h)
    first = await h.start(ends, "a", RunOptions(labels={"team": "red", "size": "10"}))
    second = await h.start(ends, "b", RunOptions(labels={"team": "red"}))
    assert {one.id for one in (await h.client.list(label="team=red")).items} == {first.id, second.id}
    assert [one.id for one in (await h.client.list(label={"team": "red", "size": "10"})).items] == [first.id]
    assert [one.id for one in (await h.client.list(label=["team=red", "size=10"])).items] == [first.id]
    assert (await h.client.list(label="team=blue")).items == ()
    assert first.snapshot.labels == {"team": "red", "size": "10"}


@scenario(1)
async def lists_are_filtered_by_text(h: Harness) -> None:
    """client.list finds text in the progress message, the error and the labels, whatever its case."""
    asks, ends = _two(h)
    waiting, bad = await h.start(asks, "Oranges"), await h.start(ends, "bad")
    labelled = await h.start(ends, "x", RunOptions(labels={"fruit": "Lemon"}))
    assert [one.id for one in (await h.client.list(text="oranges")).items] == [waiting.id]
    assert [one.id for one in (await h.client.list(text="valueerror")).items] == [bad.id]
    assert [one.id for one in (await h.client.list(text="LEMON")).items] == [labelled.id]
    assert (await h.client.list(text="%")).items == ()


@scenario(1, CLOCK)
async def lists_are_filtered_by_their_start(h: Harness) -> None:
    """client.list filters by when a run was accepted."""
    _, ends = _two(h)
    old = await h.start(ends, "old")
    await h.advance(ms=10_000)
    middle = h.now()
    new = await h.start(ends, "new")
    assert [one.id for one in (await h.client.list(started_after=middle)).items] == [new.id]
    assert [one.id for one in (await h.client.list(started_before=middle)).items] == [old.id]


@scenario(1)
async def a_bad_filter_is_an_error(h: Harness) -> None:
    """A status, cursor, label or limit that makes no sense is an error, not an empty list."""
    for bad in ({"status": "sleeping"}, {"cursor": "'; --"}, {"label": "x"}, {"limit": 0}, {"limit": 1_000_000}):
        with refused(InvalidOptionError):
            await h.client.list(**bad)


@scenario(1)
async def bulk_verbs_have_a_result_for_each_run(h: Harness) -> None:
    """cancel_many, pause_many and resume_many give a result for each run, and one refusal stops nothing."""
    asks, ends = _two(h)
    first, second, done = await h.start(asks, "a"), await h.start(asks, "b"), await h.start(ends, "c")
    await first.pause()
    paused = {one.run_id: one for one in await h.client.pause_many()}
    assert (paused[second.id].ok, paused[first.id].ok, paused[done.id].ok) == (True, False, False)
    assert paused[first.id].code == "invalid-transition"
    assert all(one.ok for one in await h.client.resume_many(workflow=asks))
    cancelled = await h.client.cancel_many(workflow=asks, reason="all", graceful=False)
    assert {one.status for one in cancelled} == {RunStatus.CANCELLED}


@scenario(1)
async def a_run_is_found_by_its_beginning(h: Harness) -> None:
    """client.get takes an id shortened while it is unambiguous, and refuses an unknown and an ambiguous one."""
    _, ends = _two(h)
    first, second = await h.start(ends, "a"), await h.start(ends, "b")
    shared = next(n for n in range(20) if first.id[: n + 1] != second.id[: n + 1])
    assert (await h.client.get(first.id[: shared + 1])).id == first.id
    with refused(RunNotFoundError):
        await h.client.get("nothing")
    with refused(RunNotFoundError):
        await h.client.get("")
    with refused(AmbiguousRunIdError) as caught:
        await h.client.get(first.id[:shared])
    assert set(caught.error.matches) == {first.id, second.id}


@scenario(1)
async def only_a_final_run_is_deleted(h: Harness) -> None:
    """client.delete removes a final run for good, and refuses any other."""
    asks, ends = _two(h)
    waiting, done = await h.start(asks, "a"), await h.start(ends, "b")
    with refused(InvalidTransitionError):
        await h.client.delete(waiting.id)
    await h.client.delete(done.id)
    with refused(RunNotFoundError):
        await h.client.get(done.id)
    assert [one.id for one in (await h.client.list()).items] == [waiting.id]


@scenario(1, CLOCK)
async def prune_removes_what_ended_long_ago(h: Harness) -> None:
    """client.prune removes final runs that ended longer ago, and nothing else."""
    asks, ends = _two(h)
    waiting, old = await h.start(asks, "a"), await h.start(ends, "old")
    await h.advance(timedelta(days=40))
    new = await h.start(ends, "new")
    assert await h.client.prune(older_than=timedelta(days=30)) == 1
    assert {one.id for one in (await h.client.list()).items} == {waiting.id, new.id}
    with refused(RunNotFoundError):
        await h.client.get(old.id)


@scenario(1)
async def events_of_all_runs_have_rising_cursors(h: Harness) -> None:
    """client.events gives the events of all runs with rising cursors, and goes on from any of them."""
    _, ends = _two(h)
    ids = {(await h.start(ends, "a")).id, (await h.start(ends, "b")).id}
    total = 0
    for run_id in ids:
        total += (await h.client.get(run_id)).snapshot.event
    seen = []
    async for event in h.client.events():
        seen.append(event)
        if len(seen) == total:
            break
    assert {event.run_id for event in seen} == ids
    assert all(before.cursor < after.cursor for before, after in itertools.pairwise(seen))
    async for event in h.client.events(after=seen[2].cursor):
        assert event == seen[3]
        break
