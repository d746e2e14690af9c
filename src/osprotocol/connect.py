"""`connect`: from a URL to a client of a file, a ledger or a server; `run`: the blocking one-liner for scripts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar, overload

from osprotocol import _limits
from osprotocol._clock import Clock
from osprotocol._ids import Ids
from osprotocol.client import Client
from osprotocol.engine import Engine
from osprotocol.errors import InvalidOptionError, NoClientError
from osprotocol.protocol.run import RunOptions
from osprotocol.workflow import Workflow

I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741


def connect(
    url: str | os.PathLike[str] | None = None,
    *,
    worker: bool | None = None,
    concurrency: int = 100,
    durability: str = "full",
    log_level: int = logging.INFO,
    clock: Clock | None = None,
    ids: Ids | None = None,
    linger_ms: int | None = None,
    token: str | None = None,
) -> Client:
    """A client of the runs at a URL; use it with ``async with``.

    A server (``http://HOST:PORT``, ``https://...``) executes its runs with its own workers: `worker`, `concurrency`,
    `durability`, `log_level` and `linger_ms` mean nothing there. Who acts is the person of the token.

    On Restate (``restate:http://HOST:8080/NAMESPACE``, see docs/engines.md) workers are usually processes of their own;
    one that works also serves the ledger, so it has to be reachable from Restate. `durability` means nothing there.

    Args:
        url: a path or ``sqlite:PATH`` (embedded engine), ``restate:`` (distributed engine), ``http:`` or ``https:`` (a
            server), else ``OSP_URL``, else the nearest ``.osp/runs.db`` upward from the working directory, else a new
            one there.
        worker: whether this process also works on runs of the workflows that it knows; by default it does on a file,
            and does not on Restate.
        concurrency: how many runs execute at once; waiting ones do not count.
        durability: ``full`` (a committed result survives a power cut) or ``normal`` (it survives a crash of the
            process; after a power cut the last steps may run again; human decisions stay full).
        log_level: records of the standard `logging` module from this level on join the log of the run that makes them.
        clock: another source of time, for tests.
        ids: another source of randomness, for tests.
        linger_ms: how long a waiting run stays in memory; 0 unwinds it at every wait.
        token: says to a server who we are; else that of ``OSP_TOKEN``, else that in the file ``OSP_TOKEN_FILE``.

    Raises:
        InvalidOptionError: the URL or token is none, or plain http would show the token to the network (set
            ``OSP_ALLOW_HTTP=1`` where that is trusted).
        EngineError: when entered: what is wrong with the database, its file system or the platform, or with the server.
        NotSignedInError: when entered: the server does not know the token.
    """
    address = os.fspath(url) if url is not None else os.environ.get("OSP_URL") or None
    scheme = (address or "").partition(":")[0].lower()
    if address is not None and "\x00" in address:
        raise InvalidOptionError("url", "holds a NUL character")
    if address is not None and scheme not in ("http", "https", "restate"):
        check_path(address)
    if address is not None and scheme in ("http", "https"):
        return _connect_to_server(address, token, clock, ids)
    if token is not None:
        raise InvalidOptionError("token", "is for a server; whoever can open a database file is trusted")

    here = Path.cwd()
    works = scheme != "restate" if worker is None else worker
    settings = {
        "concurrency": concurrency,
        "clock": clock,
        "ids": ids,
        "linger_ms": _limits.LINGER_MS if linger_ms is None else linger_ms,
    }

    async def open_engine() -> Engine:
        engine = await join(works, log_level, settings)
        if works:
            _stop_on_sigterm(engine)
        return engine

    if scheme == "restate":
        assert address is not None
        join = _member_of_ledger(address, here)
    else:
        join = _user_of_file(address, here, durability)
    return Client(open_engine, _has_stopped)


_Join = Callable[[bool, int, dict[str, Any]], Awaitable[Engine]]


def _user_of_file(address: str | None, here: Path, durability: str) -> _Join:
    async def join(works: bool, log_level: int, settings: dict[str, Any]) -> Engine:
        from osprotocol._embedded.database import find_database
        from osprotocol._embedded.engine import EmbeddedEngine

        path = find_database(here) if address is None else here / address.removeprefix("sqlite:")
        engine = EmbeddedEngine(path, durability=durability, **settings)
        try:
            await engine.begin(worker=works, log_level=log_level)
        except BaseException:
            await engine.close()
            raise
        return engine

    return join


def _member_of_ledger(url: str, here: Path) -> _Join:
    try:
        from osprotocol._restate.address import Address
        from osprotocol._restate.engine import open_engine
    except ImportError as error:
        raise InvalidOptionError(
            "url", f"restate: needs an extra that is not installed ({error.name}): pip install 'osprotocol[restate]'"
        ) from None
    address = Address.parse(url, os.environ)

    async def join(works: bool, log_level: int, settings: dict[str, Any]) -> Engine:
        return await open_engine(address, here, worker=works, log_level=log_level, **settings)

    return join


def _connect_to_server(url: str, token: str | None, clock: Clock | None, ids: Ids | None) -> Client:
    from osprotocol._http.address import find_token, read_address

    address, signed = read_address(url), find_token(token)

    async def open_engine() -> Engine:
        from osprotocol._http.engine import HttpEngine

        engine = HttpEngine(address, signed, clock=clock, ids=ids)
        try:
            await engine.begin()
        except BaseException:
            await engine.close()
            raise
        return engine

    return Client(open_engine)


def check_path(address: str) -> None:
    """Refuse what is meant as a URL, before a file of that name is made.

    Raises:
        InvalidOptionError: it has another scheme, or is a host and a port.
    """
    if "://" in address and not address.startswith("sqlite:"):
        raise InvalidOptionError("url", f"{address[:80]!r} is none that is known; write a path, or http://HOST:PORT")
    if re.fullmatch(r"[\w.-]*[\w-]:\d+", address) and not os.path.exists(address):
        raise InvalidOptionError("url", f"{address!r} is no file; for the server there write http://{address}")


_working: dict[asyncio.AbstractEventLoop, list[Engine]] = {}


def _stop_on_sigterm(engine: Engine) -> None:
    """Park everything before SIGTERM ends the process, unless the program handles the signal itself."""
    loop = asyncio.get_running_loop()
    engines = _working.setdefault(loop, [])
    engines.append(engine)
    if len(engines) > 1:
        return
    pending: list[asyncio.Task[None]] = []

    async def stop() -> None:
        for working in list(engines):
            await working.close()
        loop.remove_signal_handler(signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    # Not possible outside of the main thread: there the program's own shutdown closes the client.
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            loop.add_signal_handler(signal.SIGTERM, lambda: pending.append(loop.create_task(stop())))


def _has_stopped(engine: Engine) -> None:
    """The engine is closed; with the last one the signal is the program's own again."""
    for loop, engines in list(_working.items()):
        if engine in engines:
            engines.remove(engine)
            if not engines:
                del _working[loop]
                with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                    loop.remove_signal_handler(signal.SIGTERM)


@overload
def run(workflow: Workflow[None, O], input: None = None, options: RunOptions | None = None, **settings: Any) -> O: ...
@overload
def run(workflow: Workflow[I, O], input: I, options: RunOptions | None = None, **settings: Any) -> O: ...
def run(workflow: Workflow[Any, O], input: Any = None, options: RunOptions | None = None, **settings: Any) -> O:
    """Connect, start the workflow, wait and give its result: for scripts. `settings` go to `connect`.

    Survives a crash: the run; it goes on when a worker of the same database knows the workflow.
    """

    async def main() -> O:
        async with connect(**settings) as client:
            execution = await client.create_run(workflow, input, options).start()
            return await execution.result

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise NoClientError("osprotocol.run() blocks, and an event loop runs here already")
    if sys.platform not in ("linux", "darwin"):
        from osprotocol.errors import UnsupportedPlatformError

        raise UnsupportedPlatformError(sys.platform)
    return asyncio.run(main())
