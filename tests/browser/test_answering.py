"""People answer in the browser: from the inbox, at the same time, too late, with the keyboard, on a phone."""

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from osprotocol import Execution
from tests.browser import flows
from tests.browser.desk import Desk, until_open


async def asked(desk: Desk, **given: Any) -> Execution[str]:
    """A run that waits for a decision."""
    execution = await desk.client.create_run(flows.ask, flows.Ask(**given)).start()
    await until_open(execution)
    return execution


def request_path(execution: Execution[Any]) -> str:
    return f"/requests/{execution.requests[0].id}"


async def press(page: Page, name: str) -> None:
    await page.get_by_role("button", name=re.compile(rf"^\W*{name}\b")).first.click()


async def reject(page: Page, reason: str) -> None:
    await page.get_by_label(re.compile("reason", re.IGNORECASE)).first.fill(reason)
    await press(page, "Reject")


async def test_an_approval_from_the_inbox_lets_the_run_go_on(desk: Desk) -> None:
    """Inbox, open, Approve: the run completes, approved by the signed-in person."""
    execution = await asked(desk, question="Deploy version 1.4.2?", payload={"version": "1.4.2"})
    page = await desk.sign_in("ada")
    await page.goto("/inbox")
    await page.get_by_role("link", name=re.compile("Deploy version 1.4.2")).first.click()
    await press(page, "Approve")
    assert (await execution.result).startswith("approved by ada")


async def test_a_rejection_takes_its_reason_along(desk: Desk) -> None:
    """Reject with a reason: the code gets both."""
    execution = await asked(desk)
    page = await desk.sign_in("ada")
    await page.goto(request_path(execution))
    await reject(page, "Not before Monday")
    assert await execution.result == "rejected by ada: Not before Monday"


async def test_the_voter_gets_a_receipt(desk: Desk) -> None:
    """After the vote the request says what became of it and who decided."""
    execution = await asked(desk)
    page, path = await desk.sign_in("ada"), request_path(execution)
    await page.goto(path)
    await press(page, "Approve")
    await execution.wait()
    await page.goto(path)
    await expect(page.get_by_role("main")).to_contain_text(re.compile("approved", re.IGNORECASE))
    await expect(page.get_by_role("main")).to_contain_text("ada")
    await expect(page.get_by_role("button", name=re.compile("^Approve"))).to_have_count(0)


async def test_in_a_race_one_vote_decides_and_the_other_person_is_told_who(desk: Desk) -> None:
    """Ada and Ben look at the same request and decide differently; the second is told of the first."""
    execution = await asked(desk)
    desk.watch.allow("409")
    ada, ben = await desk.sign_in("ada"), await desk.sign_in("ben", java_script_enabled=False)
    for page in (ada, ben):
        await page.goto(request_path(execution))
        await expect(page.get_by_role("button", name=re.compile("^Approve"))).to_be_enabled()
    await press(ada, "Approve")
    await execution.wait()
    await reject(ben, "I am against it")
    assert (await execution.result).startswith("approved by ada")
    await expect(ben.get_by_role("main")).to_contain_text("ada")
    await expect(ben.get_by_role("main")).to_contain_text(re.compile("approved", re.IGNORECASE))
    await expect(ben.get_by_role("main")).not_to_contain_text("Your answer is recorded")


async def test_a_page_on_which_somebody_else_decided_says_so_by_itself(desk: Desk) -> None:
    """Ben's open page shows Ada's decision without being loaded again."""
    execution = await asked(desk)
    ada, ben = await desk.sign_in("ada"), await desk.sign_in("ben")
    for page in (ada, ben):
        await page.goto(request_path(execution))
    await press(ada, "Approve")
    await expect(ben.get_by_role("main")).to_contain_text(re.compile("approved.{0,40}ada", re.IGNORECASE | re.DOTALL))


async def ask_again(desk: Desk, execution: Execution[int]) -> None:
    """Somebody answers from a process without the code; the worker refuses that, so the question opens again."""
    osp = str(Path(sys.executable).with_name("osp"))
    events = execution.events(execution.snapshot.event)
    process = await asyncio.create_subprocess_exec(
        osp, "respond", execution.id, "3", "--db", str(desk.database), stdout=asyncio.subprocess.DEVNULL
    )
    assert await process.wait() == 0
    async for _ in events:
        if execution.requests and execution.requests[0].revision == 2:
            return


async def test_a_form_that_changed_under_its_reader_is_refused_as_stale(desk: Desk) -> None:
    """Without script: the page submits the revision that it showed, which is no longer the question."""
    desk.watch.allow("409")
    execution = await desk.client.create_run(flows.ask_for_even).start()
    await until_open(execution)
    page = await desk.sign_in("ada", java_script_enabled=False)
    await page.goto(request_path(execution))
    await ask_again(desk, execution)
    await (
        page.get_by_role("main")
        .get_by_role("spinbutton")
        .or_(page.get_by_role("main").get_by_role("textbox"))
        .first.fill("4")
    )
    await press(page, "(Send|Answer|Submit|Respond)")
    await expect(page.get_by_role("main")).to_contain_text(re.compile("changed", re.IGNORECASE))
    assert not execution.status.is_final


async def test_a_page_whose_question_changed_waits_for_an_acknowledgement(desk: Desk) -> None:
    """With script: its buttons are off until the reader has taken notice."""
    execution = await desk.client.create_run(flows.ask_for_even).start()
    await until_open(execution)
    page = await desk.sign_in("ada")
    await page.goto(request_path(execution))
    send = page.get_by_role("button", name=re.compile("^(Send|Answer|Submit|Respond)"))
    await expect(send).to_be_enabled()
    await ask_again(desk, execution)
    await expect(send).to_be_disabled()
    await page.get_by_role("link", name=re.compile("Show it as it is now")).click()
    await expect(page.get_by_role("main")).to_contain_text("is odd")
    await page.locator("main form[data-answer] input[type=text]").first.fill("4")
    await send.click()
    assert await execution.result == 4


async def test_a_big_whole_number_is_shown_with_every_digit(desk: Desk) -> None:
    """2 to the 53rd plus one, which a browser's own numbers round."""
    execution = await asked(desk, payload={"amount": flows.BIG, "nested": {"list": [flows.BIG]}})
    page = await desk.sign_in("ada")
    await page.goto(request_path(execution))
    text = re.sub(r"[\s,.’']", "", await page.get_by_role("main").inner_text())
    assert text.count(str(flows.BIG)) >= 2
    assert str(flows.BIG - 1) not in text


async def test_a_big_whole_number_survives_the_form(desk: Desk) -> None:
    """Typed into a field and sent, it reaches the code with every digit."""
    execution = await desk.client.create_run(flows.ask_for_even).start()
    await until_open(execution)
    page = await desk.sign_in("ada")
    await page.goto(request_path(execution))
    field = page.get_by_role("main").get_by_role("spinbutton").or_(page.get_by_role("main").get_by_role("textbox"))
    await field.first.fill(str(flows.BIG - 1 + 2))
    await press(page, "(Send|Answer|Submit|Respond)")
    assert await execution.result == flows.BIG + 1


async def test_the_request_page_fits_a_phone(desk: Desk) -> None:
    """390 pixels wide: nothing has to be scrolled sideways, and both buttons can be reached."""
    payload = {"url": "https://example.org/" + "a" * 200, "rows": [{"name": "x" * 90, "amount": flows.BIG}] * 5}
    execution = await asked(desk, question="Really " + "very" * 60 + " long?", payload=payload)
    page = await desk.sign_in("ada", viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    await page.goto(request_path(execution))
    width = await page.evaluate("document.scrollingElement.scrollWidth")
    assert width <= 390
    for name in ("Approve", "Reject"):
        box = await page.get_by_role("button", name=re.compile(f"^{name}")).first.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        assert box["height"] >= 24  # WCAG 2.2, target size


async def test_someone_who_may_not_vote_gets_no_buttons(desk: Desk) -> None:
    """An operator sees the question, who may answer it, and nothing to press."""
    execution = await asked(desk, approvers=["grace"])
    page = await desk.sign_in("olga", ("operator",))
    await page.goto(request_path(execution))
    await expect(page.get_by_role("main")).to_contain_text("grace")
    await expect(page.get_by_role("button", name=re.compile("^Approve"))).to_have_count(0)


@pytest.mark.parametrize("has_script", [True, False], ids=["with script", "without"])
async def test_what_is_folded_has_to_be_seen_before_it_is_approved(desk: Desk, has_script: bool) -> None:
    """A text too long for the page is folded with a mark; Approve asks for having seen it, Reject does not."""
    desk.watch.allow("422|409|400")
    execution = await asked(desk, payload={"text": "\n".join(f"line {number}" for number in range(200))})
    page = await desk.sign_in("ada", java_script_enabled=has_script)
    await page.goto(request_path(execution))
    await press(page, "Approve")
    seen = page.get_by_role("checkbox", name=re.compile("seen all", re.IGNORECASE))
    await expect(seen).not_to_be_checked()
    assert not (await execution.refresh()).requests[0].responses
    await seen.check()
    await press(page, "Approve")
    assert (await execution.result).startswith("approved by ada")
