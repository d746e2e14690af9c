"""What a run's events say about its bars, attempts, pauses and clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from osprotocol import ApprovalConfig, Context, Retry, RunOptions, RunStatus, current_step, step, testing, workflow
from osprotocol._clock import to_datetime
from osprotocol.protocol.events import Event
from osprotocol.server.console.histories import Histories
from osprotocol.server.console.timeline import Timeline, clocks

START = datetime(2026, 1, 1, tzinfo=UTC)


def event(number: int, type: str, at_s: float, /, *, key: str | None = None, name: str | None = None,
          status: str | None = None, **data: Any) -> Event:  # fmt: skip
    return Event(
        run_id="r", number=number, cursor=number, type=type, at=START + timedelta(seconds=at_s), key=key, name=name,
        status=None if status is None else RunStatus(status), data=data or None,
    )  # fmt: skip


def at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def timeline(*events: Event) -> Timeline:
    made = Timeline()
    made.feed(events)
    return made


BEGUN = (event(1, "run.started", 0, status="pending"), event(2, "run.claimed", 1, status="in-progress", attempt=1))


@step(retry=Retry(attempts=2, delay_ms=1_000))
async def flaky() -> str:
    if current_step().attempt < 3:
        raise ValueError("not yet")
    return "done"


@step
async def fails() -> None:
    raise ValueError("no")


@workflow(name="timeline-mixed")
async def mixed(ctx: Context) -> str:
    await ctx.step(flaky)
    await ctx.sleep(ms=5_000)
    await ctx.wait_for_approval("Go?", ApprovalConfig(timeout_ms=3_600_000))
    return "end"


@workflow(name="timeline-again", options=RunOptions(retry=Retry(attempts=1, delay_ms=2_000)))
async def again(ctx: Context) -> None:
    await ctx.step(flaky)
    await ctx.step(fails)


async def read(client: testing.VirtualClient, run_id: str) -> Timeline:
    created = (await client.get(run_id)).snapshot.created_at
    return await Histories().read(client._engine, run_id, created)


async def test_steps_sleeps_and_questions_are_bars() -> None:
    """In the order in which they began."""
    async with testing.connect(autojump=False) as client:
        execution = await client.create_run(mixed).start()
        await client.clock.advance(timedelta(seconds=60))
        found = await read(client, execution.id)
        assert [(bar.kind, bar.outcome) for bar in found.rows()] == [
            ("step", "completed"), ("sleep", "completed"), ("approval", ""),
        ]  # fmt: skip


async def test_failed_tries_of_a_step_are_kept() -> None:
    """With the instant of each failure and the begin of the last try."""
    async with testing.connect(autojump=False) as client:
        execution = await client.create_run(mixed).start()
        await client.clock.advance(timedelta(seconds=60))
        bar = (await read(client, execution.id)).rows()[0]
        assert bar.tries == 3
        assert len(bar.failures) == 2
        assert bar.last_try_at == bar.ended_at


async def test_a_new_attempt_begins_a_band_and_marks_what_it_does_again() -> None:
    """The failed step of attempt 1 is forgotten, the completed one is not."""
    async with testing.connect(autojump=False) as client:
        execution = await client.create_run(again).start()
        await client.clock.advance(timedelta(seconds=60))
        found = await read(client, execution.id)
        assert [span.name for span in found.attempts] == ["1", "2"]
        assert [(bar.name, bar.attempt, bar.is_forgotten) for bar in found.rows()] == [
            ("flaky", 1, False), ("fails", 1, True), ("fails", 2, False),
        ]  # fmt: skip


async def test_reading_again_reads_only_what_is_new() -> None:
    """The same timeline object grows."""
    async with testing.connect(autojump=False) as client:
        execution = await client.create_run(mixed).start()
        await client.clock.settle()
        histories, created = Histories(), execution.snapshot.created_at
        first = await histories.read(client._engine, execution.id, created)
        before = first.event
        await client.clock.advance(timedelta(seconds=60))
        assert await histories.read(client._engine, execution.id, created) is first
        assert first.event > before


async def test_another_run_of_the_same_id_is_not_mixed_in() -> None:
    """A run that was deleted and started anew has another begin."""
    async with testing.connect(autojump=False) as client:
        execution = await client.create_run(mixed).start()
        histories, created = Histories(), execution.snapshot.created_at
        first = await histories.read(client._engine, execution.id, created)
        assert await histories.read(client._engine, execution.id, created + timedelta(seconds=1)) is not first


def test_events_that_were_read_are_skipped() -> None:
    """Feeding the same events twice changes nothing."""
    made = timeline(*BEGUN, event(3, "step.completed", 2, key="1", name="a", startedAt=at(1)))
    made.feed([event(3, "step.completed", 2, key="1", name="a", startedAt=at(1))])
    assert len(made.bars) == 1


def test_a_request_closes_with_its_outcome_and_person() -> None:
    """Which the bar tells."""
    made = timeline(
        *BEGUN,
        event(3, "request.opened", 2, key="1", name="approval", requestId="r-3", kind="approval", prompt="Go?"),
        event(4, "request.closed", 9, key="1", name="approval", requestId="r-3", by="ada", outcome="approved"),
    )
    bar = made.bars[0]
    assert (bar.key, bar.outcome, bar.by, bar.ended_at) == ("r-3", "approved", "ada", START + timedelta(seconds=9))


def test_a_refused_answer_opens_the_bar_again() -> None:
    """It goes on, as the same bar."""
    made = timeline(
        *BEGUN,
        event(3, "request.opened", 2, key="1", name="input", requestId="r-3", kind="input", prompt="How?"),
        event(4, "request.closed", 3, key="1", name="input", requestId="r-3", outcome="answered"),
        event(5, "request.reopened", 4, key="1", name="input", requestId="r-3", revision=2),
    )
    assert [(bar.outcome, bar.ended_at) for bar in made.bars] == [("", None)]


def test_a_gate_is_found_by_its_request() -> None:
    """It has no position in the code."""
    made = timeline(
        *BEGUN, event(3, "request.opened", 2, name="approval", requestId="r-3", kind="approval", prompt="Stop?")
    )
    found = made.find("r-3")
    assert found is not None
    assert found.position is None


def test_the_end_of_the_run_ends_everything() -> None:
    """Bars, attempts and pauses."""
    made = timeline(
        *BEGUN,
        event(3, "sleep.started", 2, key="1", name="sleep"),
        event(4, "run.paused", 3, by="ada"),
        event(5, "run.cancelled", 8, status="cancelled"),
    )
    end = START + timedelta(seconds=8)
    assert (made.bars[0].ended_at, made.bars[0].outcome) == (end, "cancelled")
    assert made.attempts[0].ended_at == made.pauses[0].ended_at == made.ended_at == end


def test_what_comes_from_another_run_begins_with_this_one() -> None:
    """Its own begin lies before this run."""
    made = timeline(
        event(1, "run.started", 0, status="pending"),
        event(2, "step.completed", 0, key="1", name="a", startedAt=at(-500)),
    )
    assert made.bars[0].is_taken_over
    assert made.bars[0].started_at == START


def test_clocks_part_the_time() -> None:
    """Queued, active, waiting and paused add up to the total."""
    made = timeline(
        *BEGUN,
        event(3, "request.opened", 5, key="1", name="approval", requestId="r-3", kind="approval", status="awaiting"),
        event(4, "run.paused", 10, by="ada"),
        event(5, "run.resumed", 30),
        event(6, "request.closed", 35, key="1", requestId="r-3", outcome="approved", status="in-progress"),
    )
    found = clocks(made, START + timedelta(seconds=40))
    seconds = [part.total_seconds() for part in (found.queued, found.active, found.waiting, found.paused, found.total)]
    assert seconds == [1, 9, 10, 20, 40]


async def test_a_pause_names_its_person() -> None:
    """And its reason."""
    async with testing.connect(autojump=False) as client:
        execution = await client.create_run(mixed).start()
        await client.clock.settle()
        await execution.pause("lunch", by="ada")
        pause = (await read(client, execution.id)).pause
        assert pause is not None
        assert (pause.name, pause.why) == ("ada", "lunch")
        assert pause.started_at == to_datetime(client.clock.now())


async def test_the_delay_between_attempts_is_not_active() -> None:
    """Nothing of the run works then."""
    async with testing.connect(autojump=False) as client:
        execution = await client.create_run(again).start()
        await client.clock.advance(timedelta(seconds=60))
        found = clocks(await read(client, execution.id), to_datetime(client.clock.now()))
        assert found.total - found.active == timedelta(seconds=2)
