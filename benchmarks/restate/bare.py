"""Bare Restate: a workflow with one step, written with Restate's SDK, and a client that awaits its result.

python benchmarks/restate/bare.py worker PORT
python benchmarks/restate/bare.py client INGRESS SCALE
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from typing import Any
from urllib.parse import urlsplit

import restate
from hypercorn.asyncio import serve
from hypercorn.config import Config
from load import RESULT, SCALES, measure

one_step = restate.Workflow("BenchOneStep")


async def noop() -> str:
    return RESULT


@one_step.main()
async def run(ctx: restate.WorkflowContext) -> str:
    """One step that does nothing."""
    return await ctx.run_typed("noop", noop)


async def work(port: int) -> None:
    """Serve the workflow as the SDK's documentation does it, until we are killed."""
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    app: Any = restate.app([one_step])
    await serve(app, config)


class Ingress:
    """The least client: HTTP/1.1 over connections that are kept, one for each call under way.

    On the two cores of the machine a client takes processor time from the server and the worker. This one takes about a
    tenth of what a full HTTP client does, so the comparison is not in our favour.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname, parts.port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def run(self) -> str:
        """Start a workflow with a new key, and wait for its result."""
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection(self._host, self._port)
        writer.write(
            f"POST /BenchOneStep/{uuid.uuid4().hex}/run HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
            "Content-Length: 0\r\n\r\n".encode()
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        if not head.startswith("http/1.1 200"):
            raise RuntimeError(head)
        body = await reader.readexactly(int(head.partition("\r\ncontent-length:")[2].partition("\r\n")[0]))
        self._idle.append((reader, writer))
        return body.decode().strip('"')


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        asyncio.run(work(int(sys.argv[2])))
    else:
        asyncio.run(measure(Ingress(sys.argv[2]).run, SCALES[sys.argv[3]]))
