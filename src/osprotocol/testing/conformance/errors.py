"""Section 10: errors."""

import copy

from osprotocol import errors
from osprotocol.context import Context
from osprotocol.errors import InvalidTransitionError, OSProtocolError, RunFailedError
from osprotocol.testing.conformance.harness import Harness, refused
from osprotocol.testing.conformance.scenario import scenario


def _classes() -> list[type[OSProtocolError]]:
    return [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, OSProtocolError)]


@scenario(10)
async def every_error_has_a_stable_code(h: Harness) -> None:
    """Each error class has a kebab-case code of its own and an HTTP status."""
    codes = [one.code for one in _classes()]
    assert len(set(codes)) == len(codes)
    assert all(code == code.lower() and "_" not in code and " " not in code for code in codes)
    assert all(400 <= one.http_status < 600 for one in _classes())


@scenario(10)
async def a_refused_command_tells_everything_in_one_line(h: Harness) -> None:
    """The error of a refused command names the run, what is wrong and the state now, in one line."""

    @h.workflow
    async def flow(ctx: Context) -> None: ...

    execution = await h.start(flow)
    with refused(InvalidTransitionError) as caught:
        await execution.pause()
    text = str(caught.error)
    assert execution.id in text
    assert "pause" in text
    assert "completed" in text
    assert "\n" not in text
    assert (caught.error.run_id, caught.error.command) == (execution.id, "pause")


@scenario(10)
async def a_failure_is_told_in_one_line(h: Harness) -> None:
    """The error of a failed run is one line, even if the code's message has several, and a copy of it says the same."""

    @h.workflow
    async def flow(ctx: Context) -> None:
        raise ValueError("first line\nsecond line")

    error = await h.error(await h.start(flow), RunFailedError)
    assert "\n" not in str(error)
    assert error.error_type == "ValueError"
    twin = copy.copy(error)  # made like a pickled one
    assert (type(twin), str(twin)) == (type(error), str(error))
