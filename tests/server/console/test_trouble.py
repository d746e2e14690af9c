"""What people read when an address is wrong, and what else can be asked of a page's address."""

from __future__ import annotations

import re

import pytest

from osprotocol.server.console.static_files import static_url
from tests.server.console.reading import form_in, send
from tests.server.console.test_run_page import opened, press, text_of
from tests.server.security.world import world


@pytest.mark.parametrize(
    ("path", "said", "way"),
    [
        ("/runs/abc", "There is no run “abc” It was deleted, or never was here, or you may not see it.", "/runs"),
        ("/requests/nope", "There is no request “nope”", "/inbox"),
        ("/workflows/zzz", "There is no workflow “zzz” to start", "/workflows"),
        ("/nothing", "There is no such page Nothing is at /nothing.", "/"),
        ("/settings/x", "There is no such page", "/settings"),
    ],
)
async def test_a_page_that_is_not_there_says_so_to_people(path: str, said: str, way: str) -> None:
    """In a sentence without commands of a terminal, with the navigation and a way on."""
    async with world() as made:
        answer = await (await made.browser("viewer")).get(path)
        assert answer.status_code == 404
        assert said in text_of(answer.text)
        assert "osp " not in text_of(answer.text)
        assert f'<a class="button button-main" href="{way}"' in answer.text
        assert 'aria-label="Main"' in answer.text


async def test_the_code_of_an_error_is_there_but_small() -> None:
    """For those who look it up."""
    async with world() as made:
        answer = await (await made.browser("viewer")).get("/runs/abc")
        assert '<p class="tiny">404 run-not-found</p>' in answer.text


@pytest.mark.parametrize("more", ["x", "pause", "x/y"])
async def test_below_a_run_there_is_nothing_to_read(more: str) -> None:
    """404, also where forms are sent to; the way leads to the run."""
    async with world() as made:
        run_id = await made.start("operator", "guarded", "Tokyo")
        answer = await (await made.browser("operator")).get(f"/runs/{run_id}/{more}")
        assert answer.status_code == 404
        assert f'href="/runs/{run_id}"' in answer.text


@pytest.mark.parametrize("path", ["/", "/runs", "/inbox", "/settings", "/audit/export.ndjson", "static"])
async def test_what_can_be_read_can_be_asked_for_without_its_body(path: str) -> None:
    """HEAD answers as GET does."""
    async with world() as made:
        browser = await made.browser("operator")
        path = static_url("console.css") if path == "static" else path
        read, asked = await browser.get(path), await browser.head(path)
        assert (asked.status_code, asked.content) == (200, b"")
        assert asked.headers["content-type"] == read.headers["content-type"]


async def test_head_of_what_is_not_there_is_404() -> None:
    """Without a body too."""
    async with world() as made:
        answer = await (await made.browser("operator")).head("/runs/abc")
        assert (answer.status_code, answer.content) == (404, b"")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/runs?started=zzz", "started: there is no such filter; there are status, workflow"),
        ("/runs?since=zzz", "since: is one of 1h, 24h, 7d, 30d"),
        ("/inbox?view=zz", "view: is one of mine, all, done"),
        ("/inbox?veiw=all", "veiw: there is no such filter"),
        ("/audit?person=ada", "person: there is no such filter; there are by, run, request"),
    ],
)
async def test_a_filter_that_is_none_is_said(path: str, said: str) -> None:
    """A typo does not look like a list of everything that fits."""
    async with world() as made:
        answer = await (await made.browser("operator")).get(path)
        assert answer.status_code == 400
        assert said in text_of(answer.text)


async def test_commands_are_those_that_a_person_may_use() -> None:
    """An operator gets pause and cancel, an approver approve and reject."""
    async with world() as made:
        run_id = await made.start("operator", "guarded", "Tokyo")
        for person, verbs in (("operator", {"show", "pause", "cancel"}), ("approver", {"show", "approve", "reject"})):
            _, page = await opened(made, person, f"/runs/{run_id}")
            assert set(re.findall(r"osp --url \S+ ([a-z]+) ", page)) == verbs


async def test_who_started_a_run_is_told_that_it_waits_for_somebody_else() -> None:
    """The panel's heading does not say "you"."""
    async with world() as made:
        await made.add_person("both", "operator", "approver")
        run_id = await made.start("both", "guarded", "Tokyo")
        _, page = await opened(made, "both", f"/runs/{run_id}")
        assert "This run waits for somebody else" in page
        assert "You started this run" in page


async def test_a_second_answer_of_the_same_person_is_called_that() -> None:
    """From another tab, without script."""
    async with world() as made:
        run_id = await made.start("operator", "guarded", "Tokyo")
        request_id = (await made.client.get(run_id)).requests[0].id
        browser, page = await opened(made, "approver", f"/requests/{request_id}")
        action = f"/requests/{request_id}/answer"
        await send(browser, page, action, "approve")
        again = await send(browser, page, action, "reject")
        assert again.status_code == 409
        assert "You answered this already, in another tab perhaps. Approved by approver" in text_of(again.text)


async def test_facts_of_the_audit_log_are_words() -> None:
    """Names with commas, yes and no."""
    async with world() as made:
        browser, page = await opened(made, "admin", "/settings")
        added = await press(browser, page, "/settings/users", name="zoe", role="viewer")
        assert added.status_code == 200
        assert form_in(added.text, "/settings/users")
        _, log = await opened(made, "admin", "/audit")
        assert "roles viewer" in text_of(log)
        assert "password no" in text_of(log)
