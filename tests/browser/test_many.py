"""Big runs and many runs."""

import asyncio
import re

import pytest
from playwright.async_api import expect

from osprotocol._clock import monotonic_s
from tests.browser import flows
from tests.browser.desk import Desk
from tests.browser.test_answering import asked, press


@pytest.mark.long
async def test_a_run_with_5000_steps_opens(desk: Desk) -> None:
    """Its page has the header, a timeline, and a way to what the timeline leaves out."""
    execution = await desk.client.create_run(flows.many_steps, 5_000).start()
    await execution.wait()
    page = await desk.sign_in("ada")
    began = monotonic_s()
    await page.goto(f"/runs/{execution.id}")
    await expect(page.get_by_role("main")).to_contain_text("completed")
    await expect(page.get_by_role("main")).to_contain_text("5,000")
    took_s = monotonic_s() - began
    size = len(await page.content())
    print(f"a run with 5,000 steps: {took_s:.2f} s, {size / 1e6:.2f} MB of page")  # noqa: T201


LONGEST_FRAME_MS = """() => new Promise(done => {
    let count = 0, longest = 0, last = performance.now();
    const frame = now => {
        longest = Math.max(longest, now - last);
        last = now;
        if (++count < 120) requestAnimationFrame(frame); else done(longest);
    };
    requestAnimationFrame(frame);
})"""


@pytest.mark.long
async def test_a_thousand_runs_that_change_at_once_leave_the_page_usable(desk: Desk) -> None:
    """While they all report progress the rows of the list move on, and a decision can be made."""
    bouncing = flows.Bouncing(rounds=30, rest_ms=500)
    runs = [await desk.client.create_run(flows.bounce, bouncing).start() for _ in range(1_000)]
    page = await desk.sign_in("ada")
    began = monotonic_s()
    await page.goto("/runs")
    row = page.locator("main tbody tr").first
    before = await row.inner_text()
    await expect(row).not_to_have_text(before)
    frame_ms = await page.evaluate(LONGEST_FRAME_MS)
    execution = await asked(desk, question="In all the noise?")
    await page.goto("/inbox")
    await page.get_by_role("link", name=re.compile("In all the noise")).first.click()
    await press(page, "Approve")
    assert (await execution.result).startswith("approved by ada")
    took_s = monotonic_s() - began
    print(f"a thousand runs at once: {took_s:.1f} s for four pages and a vote, longest frame {frame_ms:.0f} ms")  # noqa: T201
    await asyncio.gather(*(run.wait() for run in runs))
