"""Takes the pictures of the documents: the console with the sample runs of `make serve`, in a headless browser.

python docs/pictures/take.py [FOLDER]        make pictures
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WIDTH, HEIGHT = 1280, 820
MOST_BYTES = 200_000
VIEWER = "Ada Novak"
PART_S = 2.5


async def take_all(samples: Path, target: Path) -> list[str]:
    """Take every picture; gives the complaints."""
    from console_samples import ARTICLE, DATABASE, make_runs  # type: ignore[import-not-found, unused-ignore]
    from playwright.async_api import FloatRect, Page, async_playwright

    from tests.browser.desk import Desk, open_desk
    from tests.browser.house import ARGUMENTS, find_browser

    assert samples == DATABASE.parent
    complaints: list[str] = []

    async def take(page: Page, name: str, path: str) -> None:
        await page.goto(path)
        await page.evaluate("document.fonts.ready")
        file = target / f"{name}.png"
        assert page.viewport_size is not None
        size, height = page.viewport_size, await page.evaluate("document.body.getBoundingClientRect().height")
        clip: FloatRect = {"x": 0, "y": 0, "width": size["width"], "height": min(height, size["height"])}
        await page.screenshot(path=file, clip=clip, animations="disabled", caret="hide")
        sys.stdout.write(f"{file.name}: {file.stat().st_size / 1_000:.0f} kB\n")
        if file.stat().st_size > MOST_BYTES:
            complaints.append(f"{file.name} is larger than {MOST_BYTES // 1_000} kB")

    async def window(desk: Desk, width: int = WIDTH, height: int = HEIGHT, scheme: str = "light") -> Page:
        size = {"width": width, "height": height}
        return await desk.sign_in(VIEWER, viewport=size, color_scheme=scheme, reduced_motion="reduce")

    async def take_from(desk: Desk) -> None:
        await make_runs(desk.client)
        runs = (await desk.client.list(limit=50)).items
        requests = {request.workflow: request for request in (await desk.client.requests()).items}
        moved = next(run for run in runs if run.workflow == "move_history" and run.waiting_on)
        article = await desk.client.get(next(run.id for run in runs if run.workflow == "publish_article"))
        page = await window(desk)
        await take(page, "home", "/")
        await take(page, "inbox", "/inbox")
        await take(page, "runs", "/runs")
        await take(page, "workflows", "/workflows")
        await take(page, "start", "/workflows/pay_invoice/start")
        await take(page, "audit", "/audit")
        await take(await window(desk, 900, 1_060), "request", f"/requests/{requests['pay_invoice'].id}")
        await take(await window(desk, 390), "phone", f"/requests/{requests['pay_invoice'].id}")
        await take(await window(desk, scheme="dark"), "run-dark", f"/runs/{moved.id}")
        # A run with a history: a wait, a pause, an answer, and another wait, each long enough to be seen.
        await article.pause("Marketing looks at the title first.", by="Jonas Weber")
        await asyncio.sleep(PART_S)
        await article.resume(by="Jonas Weber")
        await article.respond(ARTICLE.model_dump(mode="json"), by="Maria Sommer")
        await asyncio.sleep(PART_S)
        await take(page, "run", f"/runs/{article.id}")
        complaints.extend(desk.watch.problems)

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find_browser(), args=ARGUMENTS)
        async with open_desk(browser, samples) as desk:
            await take_from(desk)
        await browser.close()
    return complaints


def main() -> int:
    """Take the pictures; 1 when something is wrong with them or with the pages."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CONSOLE_SAMPLES"] = folder
        sys.path[:0] = [str(ROOT), str(ROOT / "examples")]
        complaints = asyncio.run(take_all(Path(folder), target))
    for complaint in complaints:
        sys.stderr.write(f"{complaint}\n")
    return len(complaints) > 0


if __name__ == "__main__":
    sys.exit(main())
