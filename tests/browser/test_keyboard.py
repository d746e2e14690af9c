"""Everything goes without a mouse."""

import re

from playwright.async_api import expect

from tests.browser.desk import Desk
from tests.browser.test_answering import asked, request_path


async def test_keys_lead_from_home_to_a_decision(desk: Desk) -> None:
    """`g i`, `j`, Enter, `a`, Ctrl+Enter: home, inbox, the request, its button, sent."""
    execution = await asked(desk, question="Open the gate?")
    page = await desk.sign_in("ada")
    await page.goto("/")
    await page.keyboard.press("g")
    await page.keyboard.press("i")
    await page.wait_for_url("**/inbox*")
    await page.keyboard.press("j")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("main")).to_contain_text("Open the gate?")
    await page.keyboard.press("a")
    await expect(page.locator("*:focus")).to_have_text(re.compile("Approve"))
    assert not execution.status.is_final
    await page.keyboard.press("Control+Enter")
    assert (await execution.result).startswith("approved by ada")


async def test_moving_to_a_button_sends_nothing(desk: Desk) -> None:
    """`a` and `r` only move the focus."""
    execution = await asked(desk)
    page = await desk.sign_in("ada")
    await page.goto(request_path(execution))
    await page.keyboard.press("a")
    await expect(page.locator("*:focus")).to_have_text(re.compile("Approve"))
    await page.keyboard.press("Escape")
    await execution.refresh()
    assert execution.requests


async def test_keys_are_letters_while_somebody_types(desk: Desk) -> None:
    """In a field `?`, `j` and `g i` are text."""
    execution = await asked(desk)
    page = await desk.sign_in("ada")
    await page.goto(request_path(execution))
    field = page.get_by_label(re.compile("reason", re.IGNORECASE)).first
    await field.focus()
    await page.keyboard.type("why? j g i a r")
    await expect(field).to_have_value("why? j g i a r")
    await expect(page).to_have_url(re.compile(request_path(execution)))


async def test_the_question_mark_shows_the_keys(desk: Desk) -> None:
    """`?` opens the sheet, Escape closes it."""
    page = await desk.sign_in("ada")
    await page.goto("/")
    sheet = page.get_by_role("dialog", name=re.compile("shortcuts", re.IGNORECASE))
    await page.keyboard.press("?")
    await expect(sheet).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(sheet).to_be_hidden()


async def test_j_and_k_move_between_runs(desk: Desk) -> None:
    """`j` `j` `k` and Enter open the first of two runs."""
    await asked(desk, question="older")
    newer = await asked(desk, question="newer")
    page = await desk.sign_in("ada")
    await page.goto("/runs")
    for key in ("j", "j", "k", "Enter"):
        await page.keyboard.press(key)
    await page.wait_for_url(f"**/runs/{newer.id}*")


async def test_the_skip_link_comes_first(desk: Desk) -> None:
    """The first Tab leads to "Skip to content", which leads to the content."""
    page = await desk.sign_in("ada")
    await page.goto("/runs")
    await page.keyboard.press("Tab")
    await expect(page.locator("*:focus")).to_have_text("Skip to content")
    await page.keyboard.press("Enter")
    await expect(page.locator("main:focus")).to_have_count(1)
