"""What browser tests get: a running server, and pages that may not misbehave."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from tests.browser.desk import PATIENCE_MS, Desk, open_desk
from tests.browser.house import TEST_LIMIT_S, House, find_browser

# Read here, since tests do not see the OSP_ variables of the shell.
REQUIRED = bool(os.environ.get("OSP_REQUIRE_BROWSER"))

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
def house() -> Iterator[House]:
    executable = find_browser()
    if executable is None:
        reason = "no browser here: none of chromium, chromium-browser and google-chrome is on PATH"
        if REQUIRED:
            pytest.fail(reason)
        pytest.skip(reason)
    opened = House(executable).open()
    yield opened
    opened.close()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs an `async def test_…` of this folder on the loop where the browser and the server are."""
    test = pyfuncitem.obj
    opened = pyfuncitem.funcargs.get("house")
    if not inspect.iscoroutinefunction(test) or not isinstance(opened, House):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(test).parameters}
    opened.run(test(**arguments), None if pyfuncitem.get_closest_marker("long") else TEST_LIMIT_S)
    return True


@contextlib.contextmanager
def opened_desk(house: House, folder: Path, **settings: Any) -> Iterator[Desk]:
    stack = contextlib.AsyncExitStack()

    async def enter(context: contextlib.AbstractAsyncContextManager[Desk]) -> Desk:
        return await stack.enter_async_context(context)

    desk = house.run(enter(open_desk(house.browser, folder, **settings)))
    try:
        yield desk
    finally:
        house.run(stack.aclose())


@pytest.fixture
def desk(house: House, tmp_path: Path) -> Iterator[Desk]:
    """A server on a new database; the test fails when a page of it did what no page may do."""
    with opened_desk(house, tmp_path) as opened:
        yield opened
    assert not opened.watch.problems


@pytest.fixture
def idle_desk(house: House, tmp_path: Path) -> Iterator[Desk]:
    """A desk whose process executes nothing itself."""
    with opened_desk(house, tmp_path, worker=False) as opened:
        yield opened
    assert not opened.watch.problems


@pytest.fixture
def browser(house: House) -> Browser:
    """The browser alone."""
    return house.browser
