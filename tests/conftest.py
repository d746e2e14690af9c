"""What every test gets: async tests without a plugin, a clean environment, and hypothesis's two profiles."""

import asyncio
import inspect
import os
import signal

import pytest
from hypothesis import HealthCheck, settings

from osprotocol.server import passwords

# A shell that starts us in the background has Ctrl-C ignored, which every process that we start would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long one async test may take before it counts as hung. Time is set in tests, never slept.
ASYNC_TEST_LIMIT_S = 60

BUDGET_VARIABLE = "OSP_TEST_BUDGET_S"
BUDGET_S = float(os.environ.get(BUDGET_VARIABLE, "20"))

settings.register_profile("short", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", settings.get_profile("short"), max_examples=5_000, stateful_step_count=100)
settings.load_profile("long" if BUDGET_VARIABLE in os.environ else "short")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs an `async def test_…` to its end in an event loop of its own."""
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(test).parameters}
    # A long test keeps its own budget.
    limit_s = None if pyfuncitem.get_closest_marker("long") else ASYNC_TEST_LIMIT_S

    async def within_limit() -> None:
        async with asyncio.timeout(limit_s):
            await test(**arguments)

    asyncio.run(within_limit())
    return True


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the database, server or token that the developer's shell names."""
    for name in [name for name in os.environ if name.startswith("OSP_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords of this process are hashed quickly; the tests of the hash itself use the real cost."""
    monkeypatch.setattr(passwords, "_COST", (1 << 4, 8, 1))


@pytest.fixture
def budget_s() -> float:
    """How many seconds a long test may look for a failure: `make test-long BUDGET_S=…`."""
    return BUDGET_S
