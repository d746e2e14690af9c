"""People read before they decide: nothing folded is approved unseen, nothing moves while they read."""

import re

from playwright.async_api import Page, expect

from tests.browser.desk import Desk
from tests.browser.test_answering import asked, press, request_path

LONG = {"text": "word " * 400, "rows": [{"name": f"row {number}", "amount": number} for number in range(40)]}


def tick(page: Page) -> re.Pattern[str]:
    return re.compile("I have seen all of it")


async def test_approving_what_is_folded_waits_for_a_look(desk: Desk) -> None:
    """Approve moves to the box that asks; the run still waits."""
    execution = await asked(desk, payload=LONG)
    page = await desk.sign_in("ada")
    await page.goto(request_path(execution))
    await press(page, "Approve")
    await expect(page.get_by_role("checkbox", name=tick(page))).to_be_focused()
    assert not execution.status.is_final


async def test_opening_everything_ticks_the_box(desk: Desk) -> None:
    """Whoever has opened each folded part need not say so."""
    execution = await asked(desk, payload=LONG)
    page = await desk.sign_in("ada")
    await page.goto(request_path(execution))
    await page.get_by_text("cut here. Show all").click()
    await expect(page.get_by_role("checkbox", name=tick(page))).not_to_be_checked()
    await page.get_by_text("more rows").click()
    await expect(page.get_by_role("checkbox", name=tick(page))).to_be_checked()
    await press(page, "Approve")
    assert (await execution.result).startswith("approved by ada")


async def test_without_script_the_server_asks_for_the_look(desk: Desk) -> None:
    """The tick is all that it takes."""
    desk.watch.allow("422")
    execution = await asked(desk, payload=LONG)
    page = await desk.sign_in("ada", java_script_enabled=False)
    await page.goto(request_path(execution))
    await press(page, "Approve")
    await expect(page.get_by_role("main")).to_contain_text("Folded, and not opened")
    await page.get_by_role("checkbox", name=tick(page)).check()
    await press(page, "Approve")
    assert (await execution.result).startswith("approved by ada")


async def test_both_buttons_are_in_sight_above_a_long_payload(desk: Desk) -> None:
    """On a wide screen and on a phone, without scrolling."""
    execution = await asked(desk, payload=LONG)
    for width, height in ((1280, 820), (390, 800)):
        page = await desk.sign_in("ada", viewport={"width": width, "height": height})
        for path in (request_path(execution), f"/inbox?at={execution.requests[0].id}"):
            await page.goto(path)
            for name in ("Approve", "Reject"):
                await expect(page.get_by_role("button", name=re.compile(f"^{name}$"))).to_be_in_viewport(ratio=1)


async def test_the_list_of_questions_waits_for_a_click(desk: Desk) -> None:
    """A button tells of a new one; the others stay where they are, also when the new one is more urgent."""
    first = await asked(desk, question="first")
    page = await desk.sign_in("ada")
    await page.goto("/inbox")
    reason = page.get_by_label(re.compile("^Reason"))
    await reason.fill("half a sentence")
    await asked(desk, question="second", timeout_ms=3_600_000)
    button = page.get_by_role("button", name="1 new question")
    await expect(button).to_be_visible()
    await expect(page.locator(".ask")).to_have_count(1)
    await button.click()
    await expect(page.locator(".ask-prompt")).to_have_text(["second", "first"])
    await expect(button).to_be_hidden()
    await expect(reason).to_have_value("half a sentence")
    await expect(page.locator(".ask.current")).to_contain_text("first")
    assert not first.status.is_final


async def test_a_question_that_somebody_else_answers_stays_in_its_place(desk: Desk) -> None:
    """Marked as over, until the reader goes on."""
    await asked(desk, question="first")
    second = await asked(desk, question="second")
    page = await desk.sign_in("ada")
    await page.goto("/inbox")
    await second.approve(by="ben")
    await expect(page.locator(".ask.is-gone")).to_contain_text("second")
    await expect(page.locator(".ask-prompt")).to_have_text(["first", "second"])


async def test_an_answer_typed_meanwhile_survives_the_news(desk: Desk) -> None:
    """One of two votes comes: the page says so, waits, and keeps the reason when it goes on."""
    execution = await asked(desk, approvals=2)
    page = await desk.sign_in("ada")
    await page.goto(request_path(execution))
    reason = page.get_by_label(re.compile("^Reason"))
    await reason.fill("looks good")
    await execution.approve(by="ben")
    await expect(page.get_by_role("button", name=re.compile("^Approve$"))).to_be_disabled()
    await page.get_by_role("link", name="Show it as it is now").click()
    await expect(page.get_by_role("main")).to_contain_text("1 of 2 approvals")
    await expect(reason).to_have_value("looks good")
    await press(page, "Approve")
    assert (await execution.result).startswith("approved by")
