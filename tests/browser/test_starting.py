"""A run is started from the form that its input's schema makes."""

import re

from playwright.async_api import Page, expect

from tests.browser import flows
from tests.browser.desk import Desk
from tests.browser.test_answering import press


async def fill_order(page: Page) -> None:
    """One field of each kind."""
    await page.get_by_label(re.compile("^Article")).fill("Copy paper")
    await page.get_by_label(re.compile("^Quantity")).fill(str(flows.BIG))
    await page.get_by_label(re.compile("^Price")).fill("12.75")
    await page.get_by_role("group", name="Express").get_by_label("No").check()
    await page.get_by_role("group", name="Colour").get_by_label("green").check()
    await page.get_by_label(re.compile("^Country")).select_option("DK")
    await page.get_by_role("group", name=re.compile("^Extras")).get_by_label("gift").check()
    await page.get_by_role("group", name=re.compile("^Extras")).get_by_label("note").check()
    await page.get_by_label(re.compile("^Until")).fill("2026-12-24")
    await page.get_by_label(re.compile("^Note")).fill("Leave it at the door,\n“quietly” <b>please</b>.")


ORDER = {
    "article": "Copy paper",
    "quantity": flows.BIG,
    "price": 12.75,
    "express": False,
    "colour": "green",
    "country": "DK",
    "extras": ["gift", "note"],
    "until": "2026-12-24",
    "note": "Leave it at the door,\n“quietly” <b>please</b>.",
}


async def test_every_kind_of_field_reaches_the_code(desk: Desk) -> None:
    """Text, long text, whole and other numbers, yes or no, one of few, one of many, several, a date."""
    page = await desk.sign_in("ada")
    await page.goto("/workflows/order/start")
    await fill_order(page)
    await press(page, "Start")
    await page.wait_for_url(re.compile("/runs/"))
    (run,) = (await desk.client.list(workflow="order")).items
    assert await (await desk.client.get(run.id)).result == ORDER


async def test_an_answer_has_the_same_form(desk: Desk) -> None:
    """The form of a question takes what the start form takes."""
    execution = await desk.client.create_run(flows.ask_for_order).start()
    page = await desk.sign_in("ada")
    await page.goto("/inbox")
    await page.get_by_role("link", name=re.compile("What shall we order")).first.click()
    await fill_order(page)
    await press(page, "Send answer")
    assert await execution.result == ORDER


async def test_what_does_not_fit_is_named_and_nothing_is_lost(desk: Desk) -> None:
    """A summary leads to each wrong field; what was typed is still there; no run was started."""
    desk.watch.allow("422")
    page = await desk.sign_in("ada")
    await page.goto("/workflows/order/start")
    await fill_order(page)
    await page.get_by_label(re.compile("^Article")).fill("x")
    await page.get_by_label(re.compile("^Quantity")).fill("many")
    await press(page, "Start")
    summary = page.get_by_role("alert").first
    await expect(summary).to_contain_text("Article")
    await expect(summary).to_contain_text("Quantity")
    await expect(page.get_by_label(re.compile("^Quantity"))).to_have_value("many")
    await expect(page.get_by_label(re.compile("^Until"))).to_have_value("2026-12-24")
    await expect(page.get_by_role("group", name="Colour").get_by_label("green")).to_be_checked()
    await summary.get_by_role("link", name=re.compile("Quantity")).click()
    await expect(page.get_by_label(re.compile("^Quantity"))).to_be_focused()
    assert not (await desk.client.list(workflow="order")).items


async def test_a_double_click_starts_one_run(desk: Desk) -> None:
    """Without script, too: both carry the same mark."""
    page = await desk.sign_in("ada", java_script_enabled=False)
    await page.goto("/workflows/many_steps/start")
    await page.locator("main form input:not([type=hidden])").first.fill("1")
    await page.get_by_role("button", name="Start").dblclick()
    await page.wait_for_url(re.compile("/runs/"))
    assert len((await desk.client.list(workflow="many_steps")).items) == 1
