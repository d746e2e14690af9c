"""Pages move by themselves, also when the work is done by another process, and miss nothing."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import expect

from osprotocol import RunStatus
from tests.browser import flows
from tests.browser.desk import Desk
from tests.browser.test_answering import asked, press


@pytest.fixture
def signals(tmp_path: Path) -> Path:
    folder = tmp_path / "signals"
    folder.mkdir()
    return folder


class OtherProcess:
    """A worker in a process of its own."""

    def __init__(self, database: Path) -> None:
        osp = str(Path(sys.executable).with_name("osp"))
        command = [osp, "worker", flows.__file__, "--db", str(database)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


@pytest.fixture
def other_process(idle_desk: Desk) -> Iterator[OtherProcess]:
    other = OtherProcess(idle_desk.database)
    yield other
    other.stop()


async def test_progress_of_another_process_appears(idle_desk: Desk, signals: Path, other_process: OtherProcess) -> None:
    """The server's process only looks on; each step elsewhere moves the open page."""
    run = idle_desk.client.create_run(flows.follow, flows.Signals(folder=str(signals)))
    execution = await run.start()
    page = await idle_desk.sign_in("ada")
    await page.goto(f"/runs/{execution.id}")
    for number in (1, 2, 3):
        (signals / str(number)).touch()
        await expect(page.get_by_role("main")).to_contain_text(f"file {number} came")
    await expect(page.get_by_role("main")).to_contain_text("completed")


async def test_a_new_request_appears_in_the_inbox(desk: Desk) -> None:
    """The open inbox tells of a request that comes, and so does the page's title."""
    page = await desk.sign_in("ada")
    await page.goto("/inbox")
    await asked(desk, question="Is anybody there?")
    await expect(page.get_by_role("main")).to_contain_text("Is anybody there?")
    await expect(page).to_have_title(re.compile(r"^\(1\)"))


async def test_a_row_of_the_inbox_stays_where_it_is_when_it_is_over(desk: Desk) -> None:
    """What somebody else answers is marked, not removed, so that no click lands on another question."""
    first, second = await asked(desk, question="The first?"), await asked(desk, question="The second?")
    page = await desk.sign_in("ada")
    await page.goto("/inbox")
    row = page.get_by_role("link", name=re.compile("The second"))
    before = await row.bounding_box()
    await first.approve(by="ben")
    await expect(page.locator("main li.is-gone")).to_contain_text("The first?")
    assert await row.bounding_box() == before
    assert second.requests


async def test_the_badge_goes_down_when_somebody_else_answers(desk: Desk) -> None:
    """The count beside Inbox is of what waits now."""
    execution = await asked(desk)
    page = await desk.sign_in("ada")
    await page.goto("/runs")
    await expect(page).to_have_title(re.compile(r"^\(1\)"))
    await execution.approve(by="ben")
    await expect(page).not_to_have_title(re.compile(r"^\("))


async def test_rows_of_the_list_wait_for_a_click(desk: Desk) -> None:
    """New runs do not move the rows under the pointer; a button says how much there is and applies it."""
    first = await asked(desk, question="first")
    page = await desk.sign_in("ada")
    await page.goto("/runs")
    await expect(page.locator(f"main a[href^='/runs/{first.id}']").first).to_be_visible()
    second = await asked(desk, question="second")
    updates = page.get_by_role("button", name=re.compile(r"\d+ (update|new)", re.IGNORECASE))
    await expect(updates).to_be_visible()
    await expect(page.locator(f"main a[href^='/runs/{second.id}']")).to_have_count(0)
    await updates.click()
    await expect(page.locator(f"main a[href^='/runs/{second.id}']").first).to_be_visible()


async def test_a_stream_that_was_cut_misses_nothing(desk: Desk, signals: Path) -> None:
    """The server goes away while the run moves; when it is back, so is the page."""
    desk.watch.allow("ERR_|Failed to (load|fetch)|NetworkError")
    run = desk.client.create_run(flows.follow, flows.Signals(folder=str(signals)))
    execution = await run.start()
    page = await desk.sign_in("ada")
    await page.goto(f"/runs/{execution.id}?tab=logs")
    (signals / "1").touch()
    await expect(page.get_by_role("main")).to_contain_text("file 1 came")
    await desk.server.stop()
    await expect(page.locator("#stale")).to_be_visible()
    (signals / "2").touch()
    (signals / "3").touch()
    await execution.wait()
    await desk.server.start()
    await expect(page.get_by_role("main")).to_contain_text("file 3 came")
    await expect(page.get_by_role("main")).to_contain_text("completed")
    await expect(page.locator("#stale")).to_be_hidden()


async def test_log_lines_arrive_while_they_are_written(desk: Desk, signals: Path) -> None:
    """The log follows."""
    execution = await desk.client.create_run(flows.talk, flows.Signals(folder=str(signals))).start()
    page = await desk.sign_in("ada")
    await page.goto(f"/runs/{execution.id}?tab=logs")
    for number in (1, 2, 3):
        (signals / str(number)).touch()
        await expect(page.get_by_role("main")).to_contain_text(f"line {number}.")
    for number in (1, 2, 3):
        await expect(page.get_by_text(f"line {number}.")).to_have_count(1)


async def test_a_run_paused_elsewhere_says_by_whom(desk: Desk) -> None:
    """A pause from the terminal shows on the open page, with its button turned round."""
    execution = await desk.client.create_run(flows.wait_a_day).start()
    page = await desk.sign_in("ada")
    await page.goto(f"/runs/{execution.id}")
    await execution.pause("the printer smokes", by="ben")
    await expect(page.get_by_role("main")).to_contain_text("the printer smokes")
    await press(page, "Resume")
    await expect(page.get_by_role("button", name=re.compile("^Pause")).first).to_be_visible()
    assert (await execution.refresh()).status is RunStatus.IN_PROGRESS


async def test_signing_out_closes_the_other_tabs_stream(desk: Desk) -> None:
    """After signing out in one tab the other gets nothing more and says so."""
    desk.watch.allow("401|403|ERR_")
    page = await desk.sign_in("ada")
    await page.goto("/runs")
    other = await page.context.new_page()
    await other.goto("/")
    await other.get_by_role("button", name="Sign out").click()
    await expect(page.locator("#stale")).to_be_visible()


async def test_what_somebody_types_survives_news(desk: Desk) -> None:
    """A new request, and a change of the run itself, leave a half-written reason and the focus alone."""
    execution = await asked(desk, question="The first?")
    page = await desk.sign_in("ada")
    await page.goto("/inbox")
    await page.get_by_role("link", name=re.compile("The first")).first.click()
    reason = page.get_by_label(re.compile("reason", re.IGNORECASE)).first
    await reason.fill("Because we")
    await asked(desk, question="The second?")
    await execution.pause(by="ben")
    await expect(page.get_by_role("button", name="1 new question")).to_be_visible()
    await expect(reason).to_have_value("Because we")
    await expect(reason).to_be_focused()


async def test_a_window_goes_on_when_the_one_with_the_stream_is_closed(desk: Desk) -> None:
    """Windows of a browser share one stream; the next one opens its own when that is gone."""
    first = await desk.sign_in("ada")
    await first.goto("/inbox")
    await expect(first.locator("#live")).to_have_text("Live")
    second = await first.context.new_page()
    await second.goto("/inbox")
    await asked(desk, question="While both are open?")
    for page in (first, second):
        await expect(page.get_by_role("main")).to_contain_text("While both are open?")
    await first.close()
    await asked(desk, question="After one was closed?")
    await second.get_by_role("button", name="1 new question").click()
    await expect(second.get_by_role("main")).to_contain_text("After one was closed?")


@pytest.mark.parametrize("width", [1280, 390])
async def test_an_answer_is_held_back_while_the_server_is_away(desk: Desk, width: int) -> None:
    """Approve sends nothing then, says so in words, keeps the reason; when the server is back it works."""
    desk.watch.allow("ERR_|Failed to (load|fetch)|NetworkError")
    execution = await asked(desk)
    page = await desk.sign_in("ada", viewport={"width": width, "height": 844})
    await page.goto(f"/requests/{execution.requests[0].id}")
    reason = page.get_by_label(re.compile("reason", re.IGNORECASE)).first
    await reason.fill("Because we agreed")
    await desk.server.stop()
    await press(page, "Approve")
    banner = page.locator("#stale")
    await expect(banner).to_contain_text("The server does not answer. Nothing was sent; your text is kept")
    await expect(banner).to_be_in_viewport()
    await expect(page.locator("#live")).to_contain_text("Not live")
    await expect(reason).to_have_value("Because we agreed")
    await desk.server.start()
    await expect(banner).to_contain_text("answers again")
    await press(page, "Approve")
    assert await execution.result == "approved by ada: Because we agreed"


async def test_an_answer_of_somebody_signed_out_is_kept(desk: Desk) -> None:
    """Whoever is signed out meanwhile loses no text: after signing in again in another window it is sent."""
    desk.watch.allow("401|403|ERR_")
    execution = await asked(desk)
    page = await desk.sign_in("ada")
    await page.goto(f"/requests/{execution.requests[0].id}")
    reason = page.get_by_label(re.compile("reason", re.IGNORECASE)).first
    await reason.fill("Because we agreed")
    await page.context.clear_cookies()
    await press(page, "Approve")
    await expect(page.locator("#stale")).to_contain_text("You are signed out; your text is kept")
    again = await desk.sign_in("ada")
    await page.context.add_cookies(await again.context.cookies())  # type: ignore[arg-type]
    await expect(page.locator("#stale")).to_contain_text("answers again")
    await press(page, "Approve")
    assert await execution.result == "approved by ada: Because we agreed"


async def test_ones_own_vote_in_another_tab_is_called_that(desk: Desk) -> None:
    """Not "ada voted meanwhile" to ada."""
    execution = await asked(desk, approvals=2)
    first = await desk.sign_in("ada")
    second = await first.context.new_page()
    for page in (first, second):
        await page.goto(f"/requests/{execution.requests[0].id}")
    await press(first, "Approve")
    await expect(second.get_by_role("main")).to_contain_text("You voted in another tab")
