"""What is played on failing disks: workflows of the crash tests and two more, with the people who answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import apsw

from osprotocol import Context, Execution, workflow
from osprotocol._embedded.doctor import examine
from tests.crash import scenarios
from tests.crash.scenarios import SCENARIOS, work
from tests.lab.harness import Violation
from tests.lab.io_trial import Fact, Play, Trial

_VOTED = "SELECT 1 FROM requests WHERE id = ? AND responses LIKE ?"
_ANSWERED = "SELECT 1 FROM requests WHERE id = ? AND status = 'answered'"
_HAPPENED = "SELECT 1 FROM journal WHERE type = ? AND run = (SELECT key FROM runs WHERE id = ?)"
_CANCELLED = "SELECT 1 FROM runs WHERE id = ? AND (cancel <> 'none' OR status = 'cancelled')"


@workflow(name="lab.io.asked")
async def asked(ctx: Context) -> int:
    first = await ctx.step(work, "first")
    number = await ctx.wait_for_input("Which number?", int)
    await ctx.sleep(ms=50)
    return await ctx.step(work, "last", number + first)


@workflow(name="lab.io.short")
async def short(ctx: Context) -> int:
    return await ctx.step(work, "short")


async def answering(trial: Trial) -> bool:
    """The next answer to anything that is asked; False when nobody waits for one."""
    page = await trial.ask("a list of requests", trial.client.requests())
    for request in page.items if page is not None else ():
        if "Nobody" in request.prompt:
            continue
        run = await trial.ask("a run", trial.client.get(request.run_id))
        if run is None:
            return False
        if request.kind == "approval":
            voted = {response.by.casefold() for response in request.responses}
            by = next(person for person in request.approvers or ("dora",) if person not in voted)
            fact = Fact(_VOTED, (request.id, f'%"{by}"%'))
            return await trial.ask(f"{by}'s vote", run.approve(request_id=request.id, by=by), fact) is not None
        if request.kind != "input":
            raise Violation(f"a run stands still: {request.prompt}")
        fact = Fact(_ANSWERED, (request.id,))
        await trial.ask("an answer", run.respond(41, request_id=request.id, by="cleo"), fact)
        return trial.is_fact(fact)
    return False


async def _awaiting(trial: Trial) -> list[Execution[Any]]:
    page = await trial.ask("a list of runs", trial.client.list(status="awaiting"))
    found = []
    for snapshot in page.items if page is not None else ():
        run = await trial.ask("a run", trial.client.get(snapshot.id))
        if run is not None:
            found.append(run)
    return found


async def cancelling(trial: Trial) -> bool:
    """Cancels every run that waits for its child."""
    for run in await _awaiting(trial):
        if run.snapshot.workflow == scenarios.cancelled.name and not run.cancelling:
            doing = run.cancel("no longer wanted", by="ann")
            if await trial.ask("a cancel", doing, Fact(_CANCELLED, (run.id,))) is not None:
                return True
    return False


async def pausing(trial: Trial) -> bool:
    """Pauses each run once when it waits, answers it meanwhile, then lets it go on."""
    for run in await _awaiting(trial):
        for verb, happened in (("paused", "run.paused"), ("resumed", "run.resumed")):
            if (done := f"{verb} {run.id}") in trial.did:
                continue
            if verb == "resumed" and await answering(trial):
                return True
            doing = run.pause(by="ann") if verb == "paused" else run.resume(by="bob")
            await trial.ask(f"a run is {verb}", doing, Fact(_HAPPENED, (happened, run.id)))
            if trial.is_fact(Fact(_HAPPENED, (happened, run.id))):
                trial.did.add(done)
                return True
            return False
    return await answering(trial)


async def keeping_up(trial: Trial) -> bool:
    """Once, while a run waits: lists, counts, backs up, examines, prunes and deletes; then answers."""
    for name, do in (("start", _short_run), ("look", _look), ("backup", _backup), ("prune", _prune)):
        if name not in trial.did:
            if await do(trial):
                trial.did.add(name)
                return True
            return False
    return await answering(trial)


async def _short_run(trial: Trial) -> bool:
    fact = Fact("SELECT 1 FROM runs WHERE workflow = ?", (short.name,))
    starting = trial.client.create_run(short).start()
    return await trial.ask("start of a short run", starting, fact, stays=False) is not None  # it is pruned


async def _look(trial: Trial) -> bool:
    client = trial.client
    looked = [
        await trial.ask("a list of runs", client.list(limit=1)),
        await trial.ask("statistics", client.statistics()),
        await trial.ask("workers", client.workers()),
    ]
    bad = [finding.message for finding in examine(trial.path) if finding.level == "bad"]
    if bad and not trial.disk.fired:
        raise Violation(f"doctor finds what is not there: {bad}")
    return None not in looked


async def _backup(trial: Trial) -> bool:
    target = trial.path.with_name("backup.db")

    async def back_up() -> bool:
        await trial.client.backup(target)
        return True

    made = await trial.ask("a backup", back_up())
    if made is None:
        if target.exists():
            raise Violation("a backup failed, and there is one")
        return False
    _check_backup(target)
    return True


def _check_backup(target: Path) -> None:
    copy = apsw.Connection(str(target), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        integrity = copy.execute("PRAGMA integrity_check").fetchall()
        runs = copy.execute("SELECT count(*) FROM runs").get
    finally:
        copy.close()
    if integrity != [("ok",)] or runs < 2:
        raise Violation(f"a backup was made that has {runs} runs and is {integrity}")


async def _prune(trial: Trial) -> bool:
    return await trial.ask("a prune", trial.client.prune(older_than=timedelta(0))) is not None


def _of(number: int, act: Callable[[Trial], Awaitable[bool]], **settings: Any) -> Play:
    known = SCENARIOS[number]
    return Play(
        ", ".join((known.name, *(f"{name} {value}" for name, value in settings.items()))),
        known.workflow,
        known.input,
        act,
        lambda status, value: status == known.status and bool(known.result(value)),
        known.labels,
        **settings,
    )


async def nobody(trial: Trial) -> bool:
    return False


def _asked_ends(status: str, value: Any) -> bool:
    return (status, value) == ("completed", 43)


def _steps_end(status: str, value: Any) -> bool:
    return status == "completed" and value[0] == 108


PLAYS = (
    _of(0, nobody),
    _of(1, nobody),
    _of(1, nobody, linger_ms=0),
    _of(2, answering),
    _of(2, answering, linger_ms=0),
    _of(2, answering, durability="normal"),
    _of(3, answering),
    _of(3, answering, linger_ms=0),
    _of(3, answering, durability="normal"),
    _of(4, cancelling),
    _of(4, cancelling, linger_ms=0),
    _of(5, nobody),
    _of(5, nobody, linger_ms=0),
    Play("asked", asked, None, pausing, _asked_ends, ("first", "last")),
    Play("asked, linger_ms 0", asked, None, pausing, _asked_ends, ("first", "last"), linger_ms=0),
    Play("upkeep", asked, None, keeping_up, _asked_ends, ("first", "last", "short")),
    Play("new file", scenarios.steps, 5, nobody, _steps_end, ("one", "two"), from_start=True, version=0),
    Play("old file", scenarios.steps, 5, nobody, _steps_end, ("one", "two"), from_start=True, version=1),
)
"""Six of the crash tests' scenarios, each also unwound at every wait; pausing; upkeep; and starting the process."""
