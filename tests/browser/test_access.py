"""Pages that everybody can use: axe-core finds nothing serious, light or dark."""

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT  # type: ignore[import-untyped]
from playwright.async_api import Page, expect

from tests.browser import flows
from tests.browser.conftest import opened_desk
from tests.browser.desk import EVERY_ROLE, Desk, until_open
from tests.browser.house import House
from tests.browser.test_answering import asked, request_path

SERIOUS = ("serious", "critical")


COLOURS = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}


async def violations(page: Page, only: dict[str, Any] | None = None) -> list[str]:
    """What is serious, with the elements that it is about."""
    report: dict[str, Any] = await page.evaluate(
        "options => axe.run(options)", {"resultTypes": ["violations"], **({"runOnly": only} if only else {})}
    )
    return [
        f"{page.url}: {found['id']} ({found['help']}): {node['html'][:160]} {node.get('failureSummary', '')[:200]}"
        for found in report["violations"]
        if found["impact"] in SERIOUS
        for node in found["nodes"][:5]
    ]


async def furnish(desk: Desk) -> dict[str, str]:
    """Runs in every state; gives the addresses of every page."""
    done = await desk.client.create_run(flows.many_steps, 3).start()
    failed = await desk.client.create_run(flows.say, flows.Says(text="the disk is full", end="fail")).start()
    await done.wait()
    await failed.wait()
    cancelled = await desk.client.create_run(flows.wait_a_day).start()
    await cancelled.cancel("ordered twice", by="ben")
    paused = await desk.client.create_run(flows.wait_a_day).start()
    await paused.pause("until Monday", by="ben")
    waiting = await desk.client.create_run(flows.mixed, "leaflet").start()
    await until_open(waiting)
    form = await desk.client.create_run(flows.ask_for_order).start()
    await until_open(form)
    decided = await asked(desk)
    decided_path = request_path(decided)
    await decided.reject("too early", by="ben")
    await decided.wait()
    pages = {
        "home": "/",
        "runs": "/runs",
        "no runs": "/runs?text=nothing-has-this",
        "inbox": "/inbox",
        "approval": request_path(waiting),
        "form": request_path(form),
        "receipt": decided_path,
        "workflows": "/workflows",
        "workflow": "/workflows/order",
        "start": "/workflows/order/start",
        "audit": "/audit",
        "settings": "/settings",
    }
    tabs = ("timeline", "logs", "values", "requests", "events", "audit")
    pages |= {f"run, {tab}": f"/runs/{waiting.id}?tab={tab}" for tab in tabs}
    for name, execution in (("done", done), ("failed", failed), ("cancelled", cancelled), ("paused", paused)):
        pages[f"{name} run"] = f"/runs/{execution.id}"
    return pages


@pytest.fixture(scope="module")
def furnished(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, dict[str, str]]]:
    """A desk with runs in every state, and the addresses of its pages; the tests here only look."""
    with opened_desk(house, tmp_path_factory.mktemp("furnished")) as desk:
        yield desk, house.run(furnish(desk))
    assert not desk.watch.problems


Furnished = tuple[Desk, dict[str, str]]


@pytest.mark.parametrize("part", range(3))
async def test_axe_finds_nothing_serious(furnished: Furnished, part: int) -> None:
    """On every page, in light and in dark; in three parts, so that they can be done beside each other."""
    desk, pages = furnished
    desk.watch.allow("404")
    page = await desk.sign_in("ada", bypass_csp=True, reduced_motion="reduce")
    stranger = await (await desk.window(bypass_csp=True, reduced_motion="reduce")).new_page()
    looks = [(page, path) for path in pages.values()] + [(stranger, "/sign-in"), (stranger, "/nothing-is-here")]
    found = []
    for window, path in looks[part::3]:
        await window.emulate_media(color_scheme="light")
        await window.goto(path)
        await window.evaluate(AXE_SCRIPT)
        found += await violations(window)
        await window.emulate_media(color_scheme="dark")
        found += await violations(window, COLOURS)
    assert not found, "\n".join(found)


async def test_every_page_has_landmarks_a_title_and_one_heading(furnished: Furnished) -> None:
    """A screen reader's user finds the content, the navigation and what the page is about."""
    desk, pages = furnished
    page = await desk.sign_in("ada", java_script_enabled=False)
    wrong = []
    for name, path in pages.items():
        await page.goto(path)
        counts = [await page.get_by_role("main").count(), await page.get_by_role("banner").count()]
        counts += [await page.get_by_role("navigation", name="Main").count(), await page.locator("h1").count()]
        if counts != [1, 1, 1, 1] or not await page.title():
            wrong.append((name, counts))
    assert not wrong


async def test_no_page_scrolls_sideways(furnished: Furnished) -> None:
    """Neither on a phone nor at 200 % of a small screen."""
    desk, pages = furnished
    page = await desk.sign_in("ada", viewport={"width": 640, "height": 800})
    wide = {}
    for name, path in pages.items():
        await page.goto(path)
        for width in (640, 390):
            await page.set_viewport_size({"width": width, "height": 800})
            measured: int = await page.evaluate("document.scrollingElement.scrollWidth")
            if measured > width:
                wide[name, width] = measured
    assert not wide


async def test_settings_with_tokens_and_people_fit_a_phone(desk: Desk) -> None:
    """Their tables scroll inside themselves."""
    await desk.person("Bartholomew Maximilian Longname")
    for label in ("laptop", "a" * 60):
        await desk.books.add_token("Bartholomew Maximilian Longname", label, EVERY_ROLE, by="test")
    page = await desk.sign_in("ada", viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    await page.goto("/settings")
    assert await page.evaluate("document.scrollingElement.scrollWidth") == 390


async def test_a_long_length_in_the_timeline_fits_a_phone(desk: Desk) -> None:
    """Two units and a mark for what goes on need more than one line then."""
    execution = await desk.client.create_run(flows.wait_a_day).start()
    page = await desk.sign_in("ada", viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    await page.goto(f"/runs/{execution.id}")
    await page.locator(".wf-row .wf-length").first.evaluate("element => element.textContent = '23 h 59 min…'")
    assert await page.evaluate("document.scrollingElement.scrollWidth") == 390


async def test_the_theme_can_be_chosen(desk: Desk) -> None:
    """Dark on a light system, kept on the next page."""
    page = await desk.sign_in("ada", color_scheme="light")
    await page.goto("/settings")
    await page.get_by_label("Dark").check()
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    await page.goto("/runs")
    assert await page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"


async def test_the_theme_can_be_chosen_without_script(desk: Desk) -> None:
    """Its form has a button."""
    page = await desk.sign_in("ada", color_scheme="light", java_script_enabled=False)
    await page.goto("/settings")
    await page.get_by_label("Dark").check()
    await page.get_by_role("region", name="Theme").get_by_role("button", name="Save").click()
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
