"""How a browser becomes somebody's, and what nobody else gets."""

import asyncio
import json
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from osprotocol.server.passwords import hash_password
from tests.browser import flows
from tests.browser.desk import EVERY_ROLE, Desk

PASSWORD = "correct horse battery staple"


async def link_for(desk: Desk, name: str) -> str:
    await desk.person(name)
    secret = await desk.books.open_link(name, datetime.now(UTC) + timedelta(minutes=5), by="test")
    return f"/sign-in?code={secret}"


async def ada_with_password(desk: Desk) -> None:
    hashed = await asyncio.to_thread(hash_password, PASSWORD)
    await desk.books.add_user("ada", EVERY_ROLE, password_hash=hashed, by="test")


async def sign_in_with(page: Page, name: str, password: str) -> None:
    await page.get_by_label(re.compile("name", re.IGNORECASE)).fill(name)
    await page.get_by_label(re.compile("password", re.IGNORECASE)).fill(password)
    await page.get_by_role("button", name=re.compile("Sign in")).click()


async def test_a_password_opens_the_page_that_was_asked_for(desk: Desk) -> None:
    """A stranger is sent to sign in, and after that to where they were going."""
    await ada_with_password(desk)
    page = await (await desk.window()).new_page()
    await page.goto("/runs")
    await expect(page).to_have_url(re.compile("/sign-in"))
    await sign_in_with(page, "ada", PASSWORD)
    await expect(page).to_have_url(re.compile("/runs$"))


async def test_a_link_signs_in_once(desk: Desk) -> None:
    """Looking at the link changes nothing, its button signs in, and a second browser is refused."""
    desk.watch.allow("401")
    link = await link_for(desk, "ada")
    first, second = [await (await desk.window()).new_page() for _ in range(2)]
    for page in (first, second):
        await page.goto(link)
    await first.get_by_role("button", name=re.compile("Sign in")).click()
    await expect(first.get_by_role("button", name="Sign out")).to_be_visible()
    await second.get_by_role("button", name=re.compile("Sign in")).click()
    await expect(second.get_by_role("alert")).to_contain_text("used")


async def test_a_link_signs_in_without_script(desk: Desk) -> None:
    """The link is a form as well."""
    page = await (await desk.window(java_script_enabled=False)).new_page()
    await page.goto(await link_for(desk, "ada"))
    await page.get_by_role("button", name=re.compile("Sign in")).click()
    await expect(page.get_by_role("button", name="Sign out")).to_be_visible()


async def test_a_wrong_password_is_refused_in_words(desk: Desk) -> None:
    """The form comes back with the name, and says that it did not work."""
    desk.watch.allow("401|403|422")
    await ada_with_password(desk)
    page = await (await desk.window()).new_page()
    await page.goto("/sign-in")
    await sign_in_with(page, "ada", PASSWORD + "!")
    await expect(page.get_by_role("alert")).to_be_visible()
    await expect(page.get_by_label(re.compile("name", re.IGNORECASE))).to_have_value("ada")
    await expect(page.get_by_label(re.compile("password", re.IGNORECASE))).to_have_value("")


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(desk: Desk) -> None:
    """HttpOnly, SameSite=Strict, and named after the port, since a host's ports share their cookies."""
    await ada_with_password(desk)
    context = await desk.window()
    page = await context.new_page()
    await page.goto("/sign-in")
    await sign_in_with(page, "ada", PASSWORD)
    await expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    cookies = {cookie["name"]: cookie for cookie in await context.cookies()}
    session = cookies[f"osp_session_{desk.server.port}"]
    assert session["httpOnly"]
    assert session["sameSite"] == "Strict"
    assert session["path"] == "/"
    assert await page.evaluate("document.cookie") == ""


@pytest.mark.parametrize("path", ["/", "/sign-in", "/nothing-is-here", "/api/v1/runs"])
async def test_nothing_of_ours_can_be_framed(desk: Desk, path: str) -> None:
    """Another page that frames ours shows the browser's own refusal."""
    desk.watch.allow("frame|Framing|refused to connect|401|404")
    page = await desk.sign_in()
    async with page.expect_event("requestfailed", lambda request: request.frame.parent_frame is not None) as refused:
        await page.set_content(f"<iframe src='{desk.server.url}{path}'></iframe>")
    assert (await refused.value).failure == "net::ERR_BLOCKED_BY_RESPONSE"


async def test_the_link_of_osp_serve_opens_the_console(browser: Browser, tmp_path: Path) -> None:
    """A server of its own process on a new folder: the printed link signs in whoever started it, with every right."""
    osp = str(Path(sys.executable).with_name("osp"))
    process = await asyncio.create_subprocess_exec(
        osp, "serve", "--port", "0", "--json", "--db", str(tmp_path / "runs.db"), str(Path(flows.__file__)),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        told = json.loads(await process.stdout.readline())
        context = await browser.new_context()
        page = await context.new_page()
        await page.goto(told["signIn"])
        await page.get_by_role("button", name=re.compile("Sign in")).click()
        await page.goto(told["address"] + "/workflows/many_steps/start")
        await page.locator("main form input:not([type=hidden])").first.fill("3")
        await page.get_by_role("button", name="Start").click()
        await expect(page.get_by_role("main")).to_contain_text("completed")
        await context.close()
    finally:
        process.terminate()
        assert await process.wait() == 0
