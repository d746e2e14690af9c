"""Operators act on runs: one from its page, many from the list, or from a terminal with what the page offers."""

import asyncio
import os
import re
import shlex
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from playwright.async_api import expect

from osprotocol import RunStatus
from tests.browser import flows
from tests.browser.desk import EVERY_ROLE, Desk
from tests.browser.test_answering import asked, press


async def test_many_runs_are_cancelled_at_once_with_a_result_for_each(desk: Desk) -> None:
    """Two that sleep are cancelled; one that is over says that it is."""
    sleeping = [await desk.client.create_run(flows.wait_a_day).start() for _ in range(2)]
    over = await desk.client.create_run(flows.many_steps, 1).start()
    await over.wait()
    page = await desk.sign_in("ada")
    await page.goto("/runs")
    for run_id in (*(run.id for run in sleeping), over.id):
        await page.get_by_role("checkbox", name=re.compile(run_id)).check()
    await page.get_by_role("region", name="Runs").get_by_role("button", name=re.compile("Cancel")).click()
    results = page.get_by_role("main")
    await expect(results).to_contain_text(re.compile("2 of 3|2 .*cancelled", re.IGNORECASE))
    assert [await run.wait() for run in sleeping] == [RunStatus.CANCELLED] * 2
    assert over.status is RunStatus.COMPLETED


async def test_a_failed_run_is_retried_from_its_page(desk: Desk) -> None:
    """Retry leads to the new run, which names its origin."""
    failed = await desk.client.create_run(flows.say, flows.Says(text="out of paper", end="fail")).start()
    await failed.wait()
    page = await desk.sign_in("ada")
    await page.goto(f"/runs/{failed.id}")
    await expect(page.get_by_role("main")).to_contain_text("out of paper")
    await press(page, "Retry")
    await page.wait_for_url(lambda address: "/runs/" in address and failed.id not in address)
    new = next(run for run in (await desk.client.list()).items if run.id in page.url)
    assert new.origin is not None
    assert new.origin.run_id == failed.id


async def test_the_offered_commands_do_what_they_say(desk: Desk) -> None:
    """“Copy as” gives lines that work in a terminal, with a token in the environment."""
    execution = await desk.client.create_run(flows.wait_a_day).start()
    page = await desk.sign_in("ada")
    _, token = await desk.books.add_token(
        "ada", "test", EVERY_ROLE, expires_at=datetime.now(UTC) + timedelta(hours=1), by="ada"
    )
    await page.goto(f"/runs/{execution.id}")
    await page.locator("summary").filter(has_text="Copy as").click()
    offered = await page.locator("details[open] code").all_inner_texts()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for line in offered:
        if shlex.split(line)[0] == "osp" and "pause" in line:
            process = await asyncio.create_subprocess_exec(
                *shlex.split(line), env={**os.environ, "PATH": path, "OSP_TOKEN": token}
            )
            assert await process.wait() == 0
    assert [waiting.kind for waiting in (await execution.refresh()).waiting_on] == ["paused"]


async def test_a_viewer_gets_no_buttons(desk: Desk) -> None:
    """Somebody who may only look sees the run and nothing that changes it."""
    execution = await asked(desk)
    page = await desk.sign_in("vera", ("viewer",))
    for path in ("/runs", f"/runs/{execution.id}"):
        await page.goto(path)
        await expect(page.get_by_role("main")).to_contain_text("awaiting")
        for name in ("Pause", "Cancel", "Retry", "Fork", "Approve", "Start"):
            await expect(page.get_by_role("main").get_by_role("button", name=re.compile(f"^{name}"))).to_have_count(0)


async def test_a_step_shows_what_came_of_it(desk: Desk) -> None:
    """A click on a bar of the timeline shows its result, every digit of it."""
    execution = await desk.client.create_run(flows.echo_all, [str(flows.BIG), "two"]).start()
    await execution.wait()
    page = await desk.sign_in("ada")
    await page.goto(f"/runs/{execution.id}")
    await page.locator(".wf-list").get_by_role("link", name=re.compile("^echo")).first.click()
    await expect(page.locator("#detail")).to_contain_text(str(flows.BIG))
