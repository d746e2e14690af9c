"""One browser for all tests of a process, in a thread with an event loop of its own.

The tests of this folder run on that loop, beside the server that they look at: so they may use the client, the
browser and the server's people directly. Other tests keep their own loops.
"""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from playwright.async_api import Browser, Playwright, async_playwright

T = TypeVar("T")

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",  # a container's root has none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Nothing but loopback has an address.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]
TEST_LIMIT_S = 60


def find_browser() -> str | None:
    """Path of an installed browser."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class House:
    """The thread, its loop and the browser. Opened once per test process."""

    browser: Browser

    def __init__(self, executable: str) -> None:
        self._executable = executable
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="browser tests", daemon=True)
        self._playwright: Playwright | None = None

    def run(self, coroutine: Coroutine[Any, Any, T], limit_s: float | None = TEST_LIMIT_S) -> T:
        """Run on the house's loop; gives the result."""

        async def limited() -> T:
            async with asyncio.timeout(limit_s):
                return await coroutine

        return asyncio.run_coroutine_threadsafe(limited(), self._loop).result()

    def open(self) -> House:
        self._thread.start()
        self.run(self._launch())
        return self

    async def _launch(self) -> None:
        self._playwright = await async_playwright().start()
        self.browser = await self._playwright.chromium.launch(executable_path=self._executable, args=ARGUMENTS)

    def close(self) -> None:
        self.run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _stop(self) -> None:
        await self.browser.close()
        if self._playwright is not None:
            await self._playwright.stop()
