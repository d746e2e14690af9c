"""The registry of workflows and the form that starts a run."""

from __future__ import annotations

from datetime import timedelta

from tests.server.console import questions
from tests.server.console.reading import form_in, send
from tests.server.security.world import world

assert questions.order.name == "page-order"  # its workflows are started by name
ORDER = "/workflows/page-order/start"


async def test_the_registry_has_outcomes_and_the_median_wait() -> None:
    """Counts by status, and how long people take."""
    async with world() as made:
        run_id = await made.start("operator", "page-approve", "x")
        await made.client.clock.advance(timedelta(minutes=3))
        await (await made.client.get(run_id)).approve(by="approver")
        await made.client.clock.settle()
        page = (await (await made.browser("operator")).get("/workflows")).text
        assert "page-approve" in page
        assert "Asks for an approval." in page
        assert "/runs?workflow=page-approve&amp;status=completed" in page
        assert "People usually answer within 3 min" in page


async def test_a_workflow_has_its_schema_and_newest_runs() -> None:
    """What it takes, in words and as JSON Schema."""
    async with world() as made:
        run_id = await made.start("operator", "page-approve", "x")
        page = (await (await made.browser("viewer")).get("/workflows/page-approve")).text
        assert "JSON Schema of the input" in page
        assert run_id in page
        assert "/workflows/page-approve/start" not in page  # a viewer may not start


async def test_an_unknown_workflow_is_not_there() -> None:
    """404 as a page."""
    async with world() as made:
        answer = await (await made.browser("operator")).get("/workflows/nowhere")
        assert answer.status_code == 404
        assert "text/html" in answer.headers["content-type"]


async def test_who_may_not_start_has_no_form() -> None:
    """Neither by GET nor by POST."""
    async with world() as made:
        browser = await made.browser("approver")
        assert (await browser.get(ORDER)).status_code == 403
        assert (await browser.post(ORDER, data={"v": "1"})).status_code == 403


async def test_a_run_is_started_from_its_form() -> None:
    """With input, labels and timeout; the audit log names the person."""
    async with world() as made:
        browser = await made.browser("operator")
        page = (await browser.get("/workflows/page-approve/start")).text
        answer = await send(
            browser, page, "/workflows/page-approve/start", "start",
            v="Tokyo", labels="team=docs\nurgent=yes", timeout="1h30m", on_timeout="cancel",
        )  # fmt: skip
        assert answer.status_code == 303, answer.text
        run_id = answer.headers["location"].removeprefix("/runs/").partition("?")[0]
        run = (await made.client.get(run_id)).snapshot
        assert run.labels == {"team": "docs", "urgent": "yes"}
        assert [(entry.action, entry.by) for entry in made.books.audit(run=run_id)] == [("run.start", "operator")]


async def test_what_is_wrong_with_the_input_comes_back() -> None:
    """With links to the fields and everything that was typed."""
    async with world() as made:
        browser = await made.browser("operator")
        page = (await browser.get(ORDER)).text
        wrong = {"v#on": "on", "v/customer": "Ann", "v/number": "x", "labels": "no sign", "timeout": "soon"}
        given = dict(form_in(page, ORDER)) | wrong | {"decision": "start"}
        answer = await browser.post(ORDER, data=given)
        assert answer.status_code == 422
        assert 'href="#start-timeout"' in answer.text
        kept = dict(form_in(answer.text, ORDER))
        assert (kept["v/customer"], kept["labels"], kept["timeout"]) == ("Ann", "no sign", "soon")
        answer = await browser.post(ORDER, data=given | {"labels": "", "timeout": ""})
        assert answer.status_code == 422
        assert "Number: must be a whole number" in answer.text
        assert not (await made.client.list()).items


async def test_a_form_that_is_sent_twice_starts_one_run() -> None:
    """A second click, or the browser's back button."""
    async with world() as made:
        browser = await made.browser("operator")
        page = (await browser.get("/workflows/page-number/start")).text
        first = await send(browser, page, "/workflows/page-number/start", "start")
        second = await send(browser, page, "/workflows/page-number/start", "start")
        assert first.headers["location"] == second.headers["location"]
        assert len((await made.client.list()).items) == 1


async def test_an_idempotency_key_with_another_input_is_told() -> None:
    """As the engine says it, with the form as it was."""
    async with world() as made:
        browser = await made.browser("operator")
        action = "/workflows/page-approve/start"
        await send(browser, (await browser.get(action)).text, action, "start", v="one", key="k")
        answer = await send(browser, (await browser.get(action)).text, action, "start", v="two", key="k")
        assert answer.status_code == 409
        assert "was used with another" in answer.text
        assert dict(form_in(answer.text, action))["v"] == "two"


async def test_rows_of_the_input_are_added_without_script() -> None:
    """The page comes back with one more, and starts nothing."""
    async with world() as made:
        browser = await made.browser("operator")
        page = (await browser.get(ORDER)).text
        answer = await send(browser, page, ORDER, "add:v/lines")
        assert answer.status_code == 200
        assert dict(form_in(answer.text, ORDER))["v/lines#count"] == "2"
        assert not (await made.client.list()).items


async def test_the_workflow_s_own_default_is_filled_in() -> None:
    """Whoever just presses Start gets what the code would take; the address may fill in something else."""
    async with world() as made:
        browser = await made.browser("operator")
        action = "/workflows/page-approve/start"
        assert dict(form_in((await browser.get(action)).text, action))["v"] == "it"
        assert dict(form_in((await browser.get(action, params={"input": '"Oslo"'})).text, action))["v"] == "Oslo"
