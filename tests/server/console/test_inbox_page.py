"""The inbox: what waits for whom, in which order, one after the other and many at once."""

from __future__ import annotations

import re

from osprotocol.protocol.request import Request
from tests.server.console import questions
from tests.server.console.reading import form_in, send
from tests.server.security.world import World, world

assert questions.order.name == "page-order"  # its workflows are started by name


def listed(page: str) -> list[str]:
    """Ids of the requests in the list, in order."""
    return re.findall(r'href="/inbox\?view=\w+&amp;at=([\w-]+)"[^>]* data-row>', page)


async def asked(made: World, name: str, value: object = None, person: str = "operator") -> Request:
    return await made.question(await made.start(person, name, value))


async def test_what_expires_first_comes_first_then_what_waits_longest() -> None:
    """Deadline, then age."""
    async with world() as made:
        older = await asked(made, "page-number")
        newer = await asked(made, "page-number")
        urgent = await asked(made, "page-approve")
        page = (await (await made.browser("approver")).get("/inbox")).text
        assert listed(page) == [urgent.id, older.id, newer.id]


async def test_mine_holds_only_what_this_person_can_act_on() -> None:
    """Not what names others, not their own run's approval, not what they have voted on."""
    async with world() as made:
        await made.add_person("cleo", "operator", "approver")
        await asked(made, "page-two", ["ann", "bea"])
        own = await asked(made, "page-approve", person="cleo")
        voted = await asked(made, "page-two", ["cleo", "bea"])
        await (await made.client.get(voted.run_id)).approve(by="cleo", request_id=voted.id)
        open_one = await asked(made, "page-number")
        browser = await made.browser("cleo")
        assert listed((await browser.get("/inbox")).text) == [open_one.id]
        everything = listed((await browser.get("/inbox?view=all")).text)
        assert {own.id, voted.id, open_one.id} <= set(everything)
        assert len(everything) == 4


async def test_after_an_answer_comes_the_next_item() -> None:
    """With a receipt of the one before."""
    async with world() as made:
        first, second = await asked(made, "page-approve", "one"), await asked(made, "page-approve", "two")
        browser = await made.browser("approver")
        page = (await browser.get("/inbox")).text
        answer = await send(browser, page, f"/requests/{first.id}/answer", "approve")
        assert f"at={second.id}" in answer.headers["location"]
        page = (await browser.get(answer.headers["location"])).text
        assert "Approved by approver" in page
        assert dict(form_in(page, f"/requests/{second.id}/answer"))["seen"] == second.seen


async def test_a_refused_answer_stays_in_the_inbox() -> None:
    """With its list and what is wrong."""
    async with world() as made:
        request = await asked(made, "page-number")
        browser = await made.browser("approver")
        page = (await browser.get("/inbox")).text
        answer = await send(browser, page, f"/requests/{request.id}/answer", "respond", v="many")
        assert answer.status_code == 422
        assert listed(answer.text) == [request.id]
        assert "must be a whole number" in answer.text


async def test_an_empty_inbox_says_so() -> None:
    """And whether others are waited for."""
    async with world() as made:
        browser = await made.browser("approver")
        assert "Nothing waits for you" in (await browser.get("/inbox")).text
        await asked(made, "page-two", ["ann", "bea"])
        assert "1 request waits for others" in (await browser.get("/inbox")).text


async def test_done_holds_what_people_decided() -> None:
    """Newest first, with the outcome."""
    async with world() as made:
        first, second = await asked(made, "page-approve"), await asked(made, "page-number")
        await (await made.client.get(first.run_id)).reject(by="approver")
        await (await made.client.get(second.run_id)).respond(4, by="approver")
        page = (await (await made.browser("approver")).get("/inbox?view=done")).text
        assert listed(page) == [second.id, first.id]
        assert "rejected" in page


async def test_many_are_shown_once_more_before_they_are_decided() -> None:
    """The first press of the button records nothing."""
    async with world() as made:
        requests = [await asked(made, "page-approve", topic) for topic in ("one", "two")]
        browser = await made.browser("approver")
        page = (await browser.get("/inbox")).text
        answer = await send(browser, page, "/inbox/bulk", "approve", pick=[f"{one.id} {one.seen}" for one in requests])
        assert answer.status_code == 200
        assert "Nothing is recorded yet" in answer.text
        assert {"Publish one?", "Publish two?"} <= set(re.findall(r"Publish \w+\?", answer.text))
        assert len((await made.client.requests()).items) == 2


async def test_each_of_many_has_a_result_of_its_own() -> None:
    """What changed, what others decided and what may not be decided is told; the rest is recorded."""
    async with world() as made:
        await made.add_person("cleo", "operator", "approver")
        good, gone, stale = [await asked(made, "page-approve", topic) for topic in ("good", "gone", "stale")]
        own = await asked(made, "page-approve", "own", person="cleo")
        await (await made.client.get(gone.run_id)).reject(by="approver")
        picks = [f"{one.id} {one.seen}" for one in (good, gone, own)] + [f"{stale.id} 9:{stale.digest}", "nothing x"]
        browser = await made.browser("cleo")
        answer = await browser.post("/inbox/bulk", data={"decision": "approve", "confirmed": "yes", "pick": picks})
        assert "1 of 5 decisions recorded" in answer.text
        assert "Approved by cleo" in answer.text
        assert "already rejected by approver" in answer.text
        assert "you saw 9:" in answer.text
        assert "was started by the same person" in answer.text
        assert [one.id for one in (await made.client.requests()).items] == [stale.id, own.id]


async def test_choosing_nothing_is_told() -> None:
    """No decision is guessed either."""
    async with world() as made:
        request = await asked(made, "page-approve")
        browser = await made.browser("approver")
        none = await browser.post("/inbox/bulk", data={"decision": "approve"})
        odd = await browser.post("/inbox/bulk", data={"decision": "burn", "pick": [f"{request.id} {request.seen}"]})
        assert "Choose at least one request." in none.text
        assert "Say whether to approve or to reject." in odd.text


async def test_the_run_s_page_takes_the_answer_and_comes_back() -> None:
    """The same form beside the run."""
    async with world() as made:
        request = await asked(made, "page-approve")
        browser = await made.browser("approver")
        page = (await browser.get(f"/runs/{request.run_id}")).text
        answer = await send(browser, page, f"/requests/{request.id}/answer", "approve")
        assert answer.headers["location"] == f"/runs/{request.run_id}?done=answered"


async def test_among_many_only_what_is_all_in_sight_is_ticked_beforehand() -> None:
    """To approve the others is to say that they were seen; to reject takes no such word."""
    async with world() as made:
        short, long = await asked(made, "page-approve"), await asked(made, "page-long")
        browser = await made.browser("approver")
        picks = [f"{one.id} {one.seen}" for one in (short, long)]
        page = (await browser.post("/inbox/bulk", data={"decision": "approve", "pick": picks})).text
        assert [value for name, value in form_in(page, "/inbox/bulk") if name == "pick"] == picks[:1]
        assert "I have seen all of it, also what is folded (1,200 characters)." in page
        page = (await browser.post("/inbox/bulk", data={"decision": "reject", "pick": picks})).text
        assert [value for name, value in form_in(page, "/inbox/bulk") if name == "pick"] == picks
