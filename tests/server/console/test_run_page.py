"""The page of one run, as people without script use it."""

from __future__ import annotations

import re
from typing import cast

import httpx2
import pytest

from osprotocol import RunStatus
from osprotocol._embedded.engine import EmbeddedEngine
from tests.server.console import questions
from tests.server.console.reading import form_in
from tests.server.security.world import World, world

HOSTILE = "<script>alert(1)</script> \u202egnp.exe"


async def press(browser: httpx2.AsyncClient, page: str, action: str, **typed: str) -> httpx2.Response:
    """Send a form of a page with what was typed into it."""
    return await browser.post(action, data=dict(form_in(page, action)) | typed)


async def opened(made: World, person: str, path: str) -> tuple[httpx2.AsyncClient, str]:
    browser = await made.browser(person)
    answer = await browser.get(path)
    assert answer.status_code == 200, answer.text
    return browser, answer.text


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


async def test_the_head_says_what_the_run_waits_for() -> None:
    """How many approvals, and what happens if nobody answers."""
    async with world() as made:
        run_id = await made.start("operator", "page-approve", "Tokyo")
        _, page = await opened(made, "viewer", f"/runs/{run_id}")
        assert "Awaiting: 0 of 1 approval" in page
        assert "if nobody answers: rejected." in page


async def test_pause_and_resume_need_no_script() -> None:
    """They are forms, and the page says who paused."""
    async with world() as made:
        run_id = await made.start("operator", "page-approve", "Tokyo")
        browser, page = await opened(made, "operator", f"/runs/{run_id}")
        answer = await press(browser, page, f"/runs/{run_id}/pause")
        assert (answer.status_code, answer.headers["location"]) == (303, f"/runs/{run_id}?done=paused")
        page = (await browser.get(answer.headers["location"])).text
        assert "Paused by operator" in page
        assert (await press(browser, page, f"/runs/{run_id}/resume")).status_code == 303
        assert (
            '<p class="run-headline headline-awaiting"><bdi class="text">Awaiting'
            in (await browser.get(f"/runs/{run_id}")).text
        )


async def test_a_cancel_keeps_its_reason() -> None:
    """And who cancelled."""
    async with world() as made:
        run_id = await made.start("operator", "page-approve", "Tokyo")
        browser, page = await opened(made, "operator", f"/runs/{run_id}")
        await press(browser, page, f"/runs/{run_id}/cancel", reason="not needed", force="1")
        execution = await made.client.get(run_id)
        assert execution.status is RunStatus.CANCELLED
        assert "Cancelled by operator: not needed" in (await browser.get(f"/runs/{run_id}")).text


async def test_a_refused_action_says_why_and_keeps_what_was_typed() -> None:
    """With the status of the error."""
    async with world() as made:
        run_id = await made.start("operator", "page-approve", "Tokyo")
        browser, page = await opened(made, "operator", f"/runs/{run_id}")
        answer = await press(browser, page, f"/runs/{run_id}/fork", after_step="no such step")
        assert answer.status_code == 400
        assert "is no completed step of the run" in text_of(answer.text)
        assert dict(form_in(answer.text, f"/runs/{run_id}/fork"))["after_step"] == "no such step"


async def test_retry_and_fork_lead_to_the_new_run() -> None:
    """Which names its origin."""
    async with world() as made:
        run_id = await made.start("operator", "breaking", "it")
        browser, page = await opened(made, "operator", f"/runs/{run_id}")
        answer = await press(browser, page, f"/runs/{run_id}/retry")
        there = answer.headers["location"].partition("?")[0]
        assert there != f"/runs/{run_id}"
        assert run_id in (await browser.get(f"{there}?tab=values")).text


@pytest.mark.parametrize("person", ["viewer", "approver", "admin"])
async def test_who_may_not_steer_sees_no_buttons_and_is_refused(person: str) -> None:
    """The page offers nothing that would be refused, and the route refuses it anyway."""
    async with world() as made:
        run_id = await made.start("operator", "page-approve", "Tokyo")
        browser, page = await opened(made, person, f"/runs/{run_id}")
        assert f'action="/runs/{run_id}/pause"' not in page
        answer = await browser.post(f"/runs/{run_id}/pause", data={"csrf": await made.csrf(browser)})
        assert answer.status_code == 403
        assert "You may not do that" in text_of(answer.text)


async def test_who_can_answer_gets_the_panel() -> None:
    """And nobody else."""
    async with world() as made:
        run_id = await made.start("operator", "page-approve", "Tokyo")
        _, page = await opened(made, "approver", f"/runs/{run_id}")
        assert "This run waits for you" in page
        _, page = await opened(made, "viewer", f"/runs/{run_id}")
        assert "This run waits for you" not in page


@pytest.mark.parametrize("tab", ["timeline", "logs", "values", "requests", "events", "audit"])
async def test_every_tab_escapes_what_the_run_wrote(tab: str) -> None:
    """No tag of it becomes one of the page, and hidden characters are marked."""
    async with world() as made:
        run_id = await made.start("operator", "page-approve", HOSTILE)
        browser = await made.browser("approver")
        execution = await made.client.get(run_id)
        await execution.reject(HOSTILE, by=HOSTILE[:20])
        await made.client.clock.settle()
        for extra in ("", f"&step={run_id}-3"):
            page = (await browser.get(f"/runs/{run_id}?tab={tab}{extra}")).text
            assert "<script>alert" not in page
            assert "\u202e" not in re.sub(r'<input type="hidden"[^>]*>', "", page)


@pytest.mark.parametrize("tab", ["timeline", "logs", "values", "requests", "events", "audit"])
async def test_no_page_has_inline_style_or_script(tab: str) -> None:
    """The content security policy would refuse it."""
    async with world() as made:
        run_id = await made.start("operator", "page-order", None)
        _, page = await opened(made, "approver", f"/runs/{run_id}?tab={tab}")
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)|javascript:", page)


async def test_a_bar_opens_its_details_by_a_link() -> None:
    """So it works without script."""
    async with world() as made:
        run_id = await made.start("operator", "page-approve", "Tokyo")
        browser, page = await opened(made, "viewer", f"/runs/{run_id}")
        found = re.search(r'href="(\?step=[^"#]+)#detail"', page)
        assert found is not None
        detail = (await browser.get(f"/runs/{run_id}{found[1]}")).text
        assert 'id="detail-title">' in detail
        assert "Publish Tokyo?" in detail


async def test_the_log_can_be_searched_and_downloaded() -> None:
    """The file has one line for each line of the log."""
    async with world() as made:
        run_id = await made.start("operator", "breaking", "two\nlines")
        engine = cast("EmbeddedEngine", made.client._engine)
        engine.run_logs.flush()
        await engine.writer.drain()
        browser, page = await opened(made, "viewer", f"/runs/{run_id}?tab=logs&q=about")
        assert "about to fail" in page
        assert "No line fits." in (await browser.get(f"/runs/{run_id}?tab=logs&q=nothing+like+it")).text
        file = await browser.get(f"/runs/{run_id}/log.txt")
        assert "attachment" in file.headers["content-disposition"]
        assert file.text.splitlines()[0].endswith(" info about to fail with two\\nlines")


async def test_a_fragment_is_the_content_alone() -> None:
    """The script exchanges it."""
    async with world() as made:
        run_id = await made.start("operator", "page-approve", "Tokyo")
        _, page = await opened(made, "viewer", f"/runs/{run_id}?fragment=1")
        assert '<main id="main"' in page
        assert "<header" not in page
        assert "<script" not in page


async def test_a_run_that_is_not_there_is_a_page() -> None:
    """With status 404."""
    async with world() as made:
        answer = await (await made.browser("viewer")).get("/runs/nowhere")
        assert answer.status_code == 404
        assert "There is no run “nowhere”" in text_of(answer.text)


async def test_copied_commands_name_this_server_and_run() -> None:
    """For the command line and for curl."""
    async with world() as made:
        run_id = await made.start("operator", "page-approve", "Tokyo")
        _, page = await opened(made, "operator", f"/runs/{run_id}")
        assert f"osp --url http://127.0.0.1:8321 show {run_id}" in text_of(page)
        assert f"http://127.0.0.1:8321/api/v1/runs/{run_id}/pause" in page


def test_the_workflows_of_these_tests_are_defined() -> None:
    """Starting them by name needs their module."""
    assert questions.approve.name == "page-approve"


@pytest.mark.parametrize("tab", ["timeline", "logs", "values", "requests", "events", "audit"])
async def test_secrets_are_blacked_out_for_those_who_may_only_look(tab: str) -> None:
    """In every tab, in the list and in the file of the log."""
    secret = "ghp_" + "a" * 36
    async with world() as made:
        run_id = await made.start("operator", "breaking", f"{secret} password=hunter22")
        await made.start("operator", "guarded", f"{secret} password=hunter22")
        browser = await made.browser("viewer")
        for path in (
            f"/runs/{run_id}?tab={tab}",
            f"/runs/{run_id}/log.txt",
            "/runs",
            "/",
            f"/runs/{run_id}?tab=logs&q=hun",
        ):
            text = (await browser.get(path)).text.replace('value="hun"', "")
            assert secret not in text, path
            assert "hunter22" not in text, path


@pytest.mark.parametrize("first", ["viewer", "operator"])
async def test_what_others_see_of_a_timeline_changes_nothing(first: str) -> None:
    """Whoever opened the page before, a viewer's bars have the secret blacked out and an operator's have it."""
    async with world() as made:
        run_id = await made.start("operator", "page-approve", "password=hunter2 Tokyo")
        await opened(made, first, f"/runs/{run_id}")
        for person, sees in (("viewer", False), ("operator", True)):
            _, page = await opened(made, person, f"/runs/{run_id}")
            labels = re.findall(r'<span class="wf-name">(.*?)</span>', page)
            assert len(labels) == 1
            assert ("hunter2" in labels[0]) is sees
