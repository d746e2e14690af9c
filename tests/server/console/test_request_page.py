"""The page of one request, as people without script use it."""

from __future__ import annotations

from datetime import timedelta

from osprotocol import RunStatus
from osprotocol._lifecycle import commands as c
from osprotocol._lifecycle.asking import shown_digest
from osprotocol.protocol.request import Request
from osprotocol.server.settings import ServerSettings
from tests.server.console.questions import HOUR_MS
from tests.server.console.reading import buttons_in, form_in, send
from tests.server.security.world import World, world


async def asked(made: World, name: str, value: object = None, person: str = "operator") -> Request:
    return await made.question(await made.start(person, name, value))


def action_of(request: Request) -> str:
    return f"/requests/{request.id}/answer"


async def test_the_page_says_who_asks_what_and_what_happens() -> None:
    """Workflow, starter, question, payload, deadline with its zone, and each outcome in words."""
    async with world() as made:
        request = await asked(made, "page-approve", "Tokyo")
        browser = await made.browser("approver")
        page = (await browser.get(f"/requests/{request.id}")).text
        for words in (
            "asks for your approval", "operator", "Publish Tokyo?", "Tokyo", str(2**53 + 1), "UTC", "The run goes on.",
            "If nobody answers", "It counts as rejected.", "Written by the run, not verified", request.digest,
        ):  # fmt: skip
            assert words in page, words


async def test_the_form_names_the_revision_that_it_shows() -> None:
    """As a hidden field."""
    async with world() as made:
        request = await asked(made, "page-approve")
        page = (await (await made.browser("approver")).get(f"/requests/{request.id}")).text
        assert dict(form_in(page, action_of(request)))["seen"] == request.seen


async def test_an_approval_leads_to_its_receipt() -> None:
    """With name, time and reason, and the run goes on."""
    async with world() as made:
        request = await asked(made, "page-approve")
        browser = await made.browser("approver")
        page = (await browser.get(f"/requests/{request.id}")).text
        answer = await send(browser, page, action_of(request), "approve", reason="looks good")
        assert answer.status_code == 303
        receipt = (await browser.get(answer.headers["location"])).text
        assert "Approved by approver" in receipt
        assert "looks good" in receipt
        assert "Your answer is recorded." in receipt
        assert not buttons_in(receipt, action_of(request))
        await made.client.clock.settle()
        assert (await made.client.get(request.run_id)).status is RunStatus.COMPLETED


async def test_a_rejection_keeps_its_reason() -> None:
    """For the run and for the log."""
    async with world() as made:
        request = await asked(made, "page-approve")
        browser = await made.browser("approver")
        page = (await browser.get(f"/requests/{request.id}")).text
        await send(browser, page, action_of(request), "reject", reason="too early")
        after = await made.client._engine.find_request(request.id)
        assert (after.status, after.responses[0].reason) == ("rejected", "too early")
        assert [(entry.action, entry.by, entry.via) for entry in made.books.audit(request=request.id)] == [
            ("request.vote", "approver", "session")
        ]


async def test_whoever_comes_second_is_told_who_decided() -> None:
    """And the answer changed nothing."""
    async with world() as made:
        await made.add_person("bea", "approver")
        request = await asked(made, "page-approve")
        browser = await made.browser("approver")
        page = (await browser.get(f"/requests/{request.id}")).text
        await (await made.client.get(request.run_id)).reject(by="bea", request_id=request.id)
        answer = await send(browser, page, action_of(request), "approve")
        assert answer.status_code == 409
        assert "Rejected by bea. Your answer came later and changed nothing." in answer.text


async def test_a_stale_form_is_refused_and_shows_the_new_state() -> None:
    """The question opened again with another revision while somebody read it; what was typed is kept."""
    async with world() as made:
        request = await asked(made, "page-picky")
        browser = await made.browser("approver")
        page = (await browser.get(f"/requests/{request.id}")).text
        old = page.replace(request.seen, f"7:{request.digest}")
        answer = await send(browser, old, action_of(request), "respond", v="P1D")
        assert answer.status_code == 409
        assert "This request changed after your page was loaded" in answer.text
        assert dict(form_in(answer.text, action_of(request)))["v"] == "P1D"
        assert dict(form_in(answer.text, action_of(request)))["seen"] == request.seen
        assert (await made.question(request.run_id)).status == "open"


async def test_a_form_without_its_revision_is_refused() -> None:
    """A page that does not say what it showed decides nothing."""
    async with world() as made:
        request = await asked(made, "page-approve")
        browser = await made.browser("approver")
        answer = await browser.post(action_of(request), data={"decision": "approve"})
        assert answer.status_code == 409
        assert (await made.question(request.run_id)).status == "open"


async def test_what_the_worker_refuses_is_asked_again_with_its_words() -> None:
    """Only the type knows; the next page says why and has the next revision."""
    async with world() as made:
        request = await asked(made, "page-picky")
        browser = await made.browser("approver")
        page = (await browser.get(f"/requests/{request.id}")).text
        assert (await send(browser, page, action_of(request), "respond", v="soon")).status_code == 303
        await made.client.clock.settle()
        page = (await browser.get(f"/requests/{request.id}")).text
        assert "The last answer was refused" in page
        assert dict(form_in(page, action_of(request)))["seen"].startswith("2:")


async def test_who_is_no_approver_sees_why_and_has_no_buttons() -> None:
    """The names of those who decide; a forged form is refused as well."""
    async with world() as made:
        request = await asked(made, "page-two", ["ann", "bea"])
        browser = await made.browser("approver")
        page = (await browser.get(f"/requests/{request.id}")).text
        assert "Only ann and bea can answer this." in page
        assert not buttons_in(page, action_of(request))
        forged = {"decision": "approve", "seen": request.seen}
        answer = await browser.post(action_of(request), data=forged)
        assert answer.status_code == 403
        assert "approvers are ann, bea" in answer.text


async def test_who_may_only_look_has_no_buttons() -> None:
    """And is told which role answers."""
    async with world() as made:
        request = await asked(made, "page-approve")
        browser = await made.browser("viewer")
        page = (await browser.get(f"/requests/{request.id}")).text
        assert "only people with the role approver can answer" in page
        assert not buttons_in(page, action_of(request))
        assert (await browser.post(action_of(request), data={"decision": "approve"})).status_code == 403


async def test_a_quorum_shows_who_voted_and_who_is_missing() -> None:
    """The first vote counts and the page says what is left; the second decides."""
    async with world() as made:
        await made.add_person("ann", "approver")
        await made.add_person("bea", "approver")
        request = await asked(made, "page-two", ["ann", "bea"])
        ann, bea = await made.browser("ann"), await made.browser("bea")
        page = (await ann.get(f"/requests/{request.id}")).text
        assert "Yours is approval 1 of 2; the run then waits for 1 more." in page
        answer = await send(ann, page, action_of(request), "approve", reason="yes from ann")
        page = (await ann.get(answer.headers["location"])).text
        assert "You approved this already." in page
        page = (await bea.get(f"/requests/{request.id}")).text
        assert "yes from ann" in page
        assert "1 of 2 approvals" in page
        await send(bea, page, action_of(request), "approve")
        assert "Approved by ann and bea" in (await bea.get(f"/requests/{request.id}")).text


async def test_nobody_approves_a_run_of_their_own() -> None:
    """The page says so, and a forged form is refused; with the setting it is allowed."""
    for settings, status in ((ServerSettings(), 403), (ServerSettings(allow_self_approval=True), 303)):
        async with world(settings) as made:
            await made.add_person("cleo", "operator", "approver")
            request = await asked(made, "page-approve", person="cleo")
            browser = await made.browser("cleo")
            page = (await browser.get(f"/requests/{request.id}")).text
            assert ("You started this run, so somebody else has to decide." in page) == (status == 403)
            given = {"decision": "approve", "seen": request.seen}
            assert (await browser.post(action_of(request), data=given)).status_code == status


async def test_an_expired_request_says_what_that_means() -> None:
    """Rejected, unless it is approved by itself; an answer that comes then is refused."""
    for name, words in (("page-approve", "it counts as rejected"), ("page-auto", "it was approved by itself")):
        async with world() as made:
            request = await asked(made, name)
            browser = await made.browser("approver")
            page = (await browser.get(f"/requests/{request.id}")).text
            await made.client.clock.advance(timedelta(milliseconds=HOUR_MS + 1))
            await made.client.clock.settle()
            answer = await send(browser, page, action_of(request), "approve")
            assert answer.status_code == 409
            assert words in answer.text


async def test_a_whole_order_is_answered_through_its_form() -> None:
    """Text, choice, yes or no, date, a number beyond 2^53, rows that were added; exactly what was typed arrives."""
    async with world() as made:
        request = await asked(made, "page-order")
        browser, action = await made.browser("approver"), action_of(request)
        page = (await browser.get(f"/requests/{request.id}")).text
        more = await send(browser, page, action, "add:v/lines", v__customer="Zoë <b>", v__lines__0__item="tea")
        assert more.status_code == 200
        assert dict(form_in(more.text, action))["v/customer"] == "Zoë <b>"
        typed: dict[str, str | list[str]] = {
            "v__size": '"m"', "v__gift": "false", "v__due": "2030-12-31", "v__number": "9007199254740993",
            "v__lines__0__count": "1", "v__lines__1__item": "cup", "v__lines__1__count": "2", "v__note": "two\r\nlines",
        }  # fmt: skip
        answer = await send(browser, more.text, action, "respond", **typed)
        assert answer.status_code == 303, answer.text
        after = await made.client._engine.find_request(request.id)
        assert after.answer == {
            "customer": "Zoë <b>", "size": "m", "gift": False, "due": "2030-12-31", "number": 9007199254740993,
            "lines": [{"item": "tea", "count": 1}, {"item": "cup", "count": 2}], "note": "two\nlines",
        }  # fmt: skip


async def test_what_is_wrong_comes_back_with_links_and_values() -> None:
    """A summary that leads to each field; nothing is stored."""
    async with world() as made:
        request = await asked(made, "page-order")
        browser, action = await made.browser("approver"), action_of(request)
        page = (await browser.get(f"/requests/{request.id}")).text
        answer = await send(
            browser, page, action, "respond", v__customer="Ann", v__number="1,000", v__lines__0__count="0"
        )
        assert answer.status_code == 422
        for words in ("Number: must be a whole number", "Line 1, Count: must be at least 1", "Gift: is required"):
            assert words in answer.text, words
        kept = dict(form_in(answer.text, action))
        assert (kept["v/customer"], kept["v/number"], kept["v/lines/0/count"]) == ("Ann", "1,000", "0")
        for link in answer.text.split('href="#q-')[1:]:
            assert f'id="q-{link.split(chr(34))[0]}"' in answer.text
        assert (await made.question(request.run_id)).status == "open"


async def test_an_attention_request_is_answered_by_trying_again() -> None:
    """One button; the step runs once more."""
    async with world() as made:
        request = await interrupted(made)
        browser = await made.browser("approver")
        page = (await browser.get(f"/requests/{request.id}")).text
        assert "needs a decision to go on" in page
        answer = await send(browser, page, action_of(request), "retry")
        assert answer.status_code == 303
        assert (await made.client._engine.find_request(request.id)).answer == "retry"


async def test_an_attention_request_is_skipped_with_a_value() -> None:
    """As JSON; without one it comes back."""
    async with world() as made:
        request = await interrupted(made)
        browser = await made.browser("approver")
        page = (await browser.get(f"/requests/{request.id}")).text
        assert (await send(browser, page, action_of(request), "skip")).status_code == 422
        await send(browser, page, action_of(request), "skip", v='"paid by hand"')
        answer = (await made.client._engine.find_request(request.id)).answer
        assert answer == {"action": "skip", "value": "paid by hand"}


async def interrupted(made: World) -> Request:
    """A run that waits to be told what became of a step."""
    run_id = await made.start("operator", "page-two", ["ann", "bea"])
    payload = '{"reason":"interrupted","step":"pay","key":"1"}'
    prompt = "Step 'pay' was interrupted."
    command = c.OpenRequest(None, 0, "attention", "9", prompt, payload, shown_digest(prompt, payload))
    await made.client._engine.execute(run_id, command)
    page = await made.client.requests(run_id=run_id, kind="attention")
    return page.items[0]


async def test_a_decision_that_fits_no_question_is_refused() -> None:
    """An approval is not skipped, an input is not approved."""
    async with world() as made:
        approval, question = await asked(made, "page-approve"), await asked(made, "page-number")
        browser = await made.browser("approver")
        for request, decision in ((approval, "respond"), (approval, ""), (question, "approve"), (question, "skip")):
            given = {"decision": decision, "seen": request.seen, "v": "1"}
            assert (await browser.post(action_of(request), data=given)).status_code in (404, 422), decision
            assert (await made.question(request.run_id)).status == "open"


async def test_text_of_the_run_is_text_on_the_page() -> None:
    """Markup stays text; characters that hide are named."""
    async with world() as made:
        request = await asked(made, "page-approve", "<script>alert(1)</script>\u202egnp\u200b")
        page = (await (await made.browser("approver")).get(f"/requests/{request.id}")).text
        assert "<script>alert" not in page
        assert "\u202e" not in page
        assert "right-to-left override" in page


async def test_a_request_of_another_workflow_is_not_there() -> None:
    """A token for one workflow finds no request of another."""
    async with world() as made:
        request = await asked(made, "page-approve")
        await made.add_token("narrow", "approver", "approver", workflows=["guarded"])
        async with made.http("narrow") as http:
            assert (await http.get(f"/requests/{request.id}")).status_code == 404
            assert request.id not in (await http.get("/inbox?view=all")).text


async def test_what_is_folded_has_to_be_seen_before_an_approval_counts() -> None:
    """The page says how much it is; without the tick nothing is recorded, and the reason stays."""
    async with world() as made:
        request = await asked(made, "page-long")
        browser = await made.browser("approver")
        page = (await browser.get(f"/requests/{request.id}")).text
        assert "Folded above: 1,200 characters" in page
        answer = await send(browser, page, action_of(request), "approve", reason="fine")
        assert answer.status_code == 422
        assert "Folded, and not opened: 1,200 characters." in answer.text
        assert f'href="#viewed-{request.id}"' in answer.text
        assert "fine</textarea>" in answer.text
        assert (await made.client._engine.find_request(request.id)).status == "open"


async def test_saying_that_all_of_it_was_seen_lets_an_approval_count() -> None:
    """The tick is enough; nobody without script can prove more."""
    async with world() as made:
        request = await asked(made, "page-long")
        browser = await made.browser("approver")
        page = (await browser.get(f"/requests/{request.id}")).text
        answer = await send(browser, page, action_of(request), "approve", viewed="yes")
        assert answer.status_code == 303
        assert (await made.client._engine.find_request(request.id)).status == "approved"


async def test_a_rejection_needs_no_look_at_what_is_folded() -> None:
    """Saying no is always possible."""
    async with world() as made:
        request = await asked(made, "page-long")
        browser = await made.browser("approver")
        page = (await browser.get(f"/requests/{request.id}")).text
        assert (await send(browser, page, action_of(request), "reject")).status_code == 303


async def test_what_is_all_in_sight_asks_for_no_tick() -> None:
    """Most requests are short."""
    async with world() as made:
        request = await asked(made, "page-approve")
        page = (await (await made.browser("approver")).get(f"/requests/{request.id}")).text
        assert 'name="viewed"' not in page
