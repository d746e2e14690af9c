"""The console with JavaScript switched off: everything is a form."""

import re

from playwright.async_api import Page, expect

from osprotocol import RunStatus
from tests.browser import flows
from tests.browser.desk import Desk, until_open
from tests.browser.test_answering import asked, press, reject, request_path


async def plain_page(desk: Desk) -> Page:
    return await desk.sign_in("ada", java_script_enabled=False)


async def test_runs_are_listed(desk: Desk) -> None:
    """The list shows status and workflow of a run and leads to it."""
    execution = await asked(desk)
    page = await plain_page(desk)
    await page.goto("/runs")
    await expect(page.get_by_role("main")).to_contain_text("awaiting")
    await page.locator(f"main a[href^='/runs/{execution.id}']").first.click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("ask")


async def test_approve(desk: Desk) -> None:
    """A form approves."""
    execution = await asked(desk)
    page = await plain_page(desk)
    await page.goto(request_path(execution))
    await press(page, "Approve")
    assert (await execution.result).startswith("approved by ada")


async def test_reject(desk: Desk) -> None:
    """A form rejects and takes the reason along."""
    execution = await asked(desk)
    page = await plain_page(desk)
    await page.goto(request_path(execution))
    await reject(page, "too early")
    assert await execution.result == "rejected by ada: too early"


async def test_respond(desk: Desk) -> None:
    """A form answers a question."""
    execution = await desk.client.create_run(flows.ask_for_even).start()
    await until_open(execution)
    page = await plain_page(desk)
    await page.goto(request_path(execution))
    await page.locator("main form[data-answer] input[type=text]").first.fill("4")
    await press(page, "Send answer")
    assert await execution.result == 4


async def test_an_invalid_answer_comes_back_with_what_was_typed(desk: Desk) -> None:
    """What does not fit is named at its field, and nothing typed is lost."""
    desk.watch.allow("422")
    execution = await desk.client.create_run(flows.ask_for_order).start()
    await until_open(execution)
    page = await plain_page(desk)
    await page.goto(request_path(execution))
    await (
        page.locator("main form")
        .filter(has=page.get_by_label(re.compile("^Article")))
        .evaluate("form => form.noValidate = true")
    )
    await page.get_by_label(re.compile("^Article")).fill("x")
    await press(page, "(Send|Answer|Submit|Respond)")
    await expect(page.get_by_role("alert").first).to_be_visible()
    await expect(page.get_by_label(re.compile("^Article"))).to_have_value("x")
    assert not execution.status.is_final


async def test_start(desk: Desk) -> None:
    """A run is started from the form of its input."""
    page = await plain_page(desk)
    await page.goto("/workflows/many_steps/start")
    await (
        page.get_by_role("main")
        .get_by_role("spinbutton")
        .or_(page.get_by_role("main").get_by_role("textbox"))
        .first.fill("2")
    )
    await press(page, "Start")
    await page.wait_for_url("**/runs/*")
    (run,) = (await desk.client.list(workflow="many_steps")).items
    assert await (await desk.client.get(run.id)).result == 2


async def test_pause_and_resume(desk: Desk) -> None:
    """The run's page pauses it with a reason, and lets it go on."""
    execution = await desk.client.create_run(flows.wait_a_day).start()
    page = await plain_page(desk)
    await page.goto(f"/runs/{execution.id}")
    await press(page, "Pause")
    await expect(page.get_by_role("main")).to_contain_text(re.compile("paused by ada", re.IGNORECASE))
    await execution.refresh()
    assert [waiting.kind for waiting in execution.waiting_on] == ["paused"]
    await press(page, "Resume")
    await expect(page.get_by_role("button", name=re.compile("^Pause")).first).to_be_visible()
    assert not (await execution.refresh()).waiting_on


async def test_cancel_with_a_reason(desk: Desk) -> None:
    """The run's page cancels it and keeps who and why."""
    execution = await desk.client.create_run(flows.wait_a_day).start()
    page = await plain_page(desk)
    await page.goto(f"/runs/{execution.id}")
    await page.locator("summary").filter(has_text=re.compile("Cancel")).first.click()
    form = page.locator("form[action$='/cancel']")
    await form.get_by_label(re.compile("reason|why", re.IGNORECASE)).fill("ordered twice")
    await form.get_by_role("button", name=re.compile("Cancel")).click()
    await expect(page.get_by_role("main")).to_contain_text("ordered twice")
    assert await execution.wait() is RunStatus.CANCELLED
    assert execution.snapshot.cancelled_by == "ada"


async def test_sign_out(desk: Desk) -> None:
    """After signing out the pages are closed again."""
    page = await plain_page(desk)
    await page.goto("/")
    await page.get_by_role("button", name="Sign out").click()
    await page.goto("/runs")
    await expect(page).to_have_url(re.compile("/sign-in"))
