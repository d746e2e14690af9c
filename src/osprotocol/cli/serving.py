"""The command `serve`: workers, the HTTP API and the console in one process."""

from __future__ import annotations

import logging
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from osprotocol._clock import SystemClock, to_datetime
from osprotocol.cli.accounts import ADDRESS_SETTING, books_of
from osprotocol.cli.command import command
from osprotocol.cli.exits import CommandError
from osprotocol.cli.interrupt import Interrupts
from osprotocol.cli.output import say, to_json, write
from osprotocol.cli.session import Session
from osprotocol.cli.target import load_workflows
from osprotocol.engine import operating_system_user

if TYPE_CHECKING:
    from osprotocol._embedded.books import Books
    from osprotocol.client import Client
    from osprotocol.server.settings import ServerSettings

_LINK = timedelta(minutes=10)
_ROLES = ("viewer", "operator", "approver", "admin")

Targets = Annotated[
    list[str] | None,
    typer.Argument(metavar="[TARGET]...", help="module or file.py whose workflows are worked on; none: serve only."),
]


@command("serve")
async def serve(
    session: Session,
    targets: Targets = None,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Listen there; anything but loopback needs users.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="0 takes a free one.")] = 8321,
    public_url: Annotated[
        str | None, typer.Option("--public-url", metavar="URL", help="What browsers use, behind a reverse proxy.")
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="Answer under this host name too; may be repeated."),
    ] = None,
    allow_self_approval: Annotated[
        bool, typer.Option("--allow-self-approval", help="People may vote on runs that they started.")
    ] = False,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, help="Runs that execute at once; waiting ones do not count.")
    ] = 100,
    access_log: Annotated[bool, typer.Option("--access-log", help="Write a line for each request.")] = False,
) -> int:
    """Serve the console and the HTTP API, and work on runs, until Ctrl-C or SIGTERM.

    Then live streams end, running steps get five seconds to finish and the rest is parked: nothing is cancelled.
    """
    settings = _settings(host, port, public_url, tuple(allow_host or ()), allow_self_approval)
    if session.is_remote:
        raise CommandError(
            f"{session.address!r} is a server already; name a database with --db, and take OSP_URL back if it is set"
        )
    workflows = load_workflows(targets or [])
    path = session.database()
    if path is not None and not path.exists():
        from osprotocol.server.start_checks import check_host_without_people

        check_host_without_people(settings, path)  # before a database is made that nobody can use
    _log_to_stderr(requests=access_log)
    with Interrupts() as interrupts:
        interrupts.last_words = "; what ran goes on with the next worker"
        async with session.connect(worker=bool(workflows), create=True, concurrency=concurrency) as client:
            books = await books_of(client)
            await _serve(session, client, books, settings, [one.name for one in workflows], interrupts)
    return 0


async def _serve(
    session: Session,
    client: Client,
    books: Books,
    settings: ServerSettings,
    known: list[str],
    interrupts: Interrupts,
) -> None:
    from osprotocol._http.address import is_loopback
    from osprotocol.server.serve import address_of, serving

    async with serving(client, books, settings) as taken:
        address = address_of(taken)
        await books.set_setting(ADDRESS_SETTING, address)
        link = await _link(books, address) if is_loopback(taken.host) else None
        if session.json:
            write(to_json({"address": address, "signIn": link, "workflows": known}))
        else:
            write(f"serving {address}" + (f", working on {', '.join(known)}" if known else ""))
            if link is not None:
                write(f"sign in as {operating_system_user()} (once, within 10 minutes): {link}")
            say("Ctrl-C stops")
        sys.stdout.flush()
        await interrupts.came.wait()
        if not session.json:
            say("stopping; running steps get 5 s to finish, Ctrl-C again stops at once")


async def _link(books: Books, address: str) -> str | None:
    """A link that signs the person in who started the server; on a new database that person gets every role."""
    me = operating_system_user()
    if not books.users():
        await books.add_user(me, _ROLES, by=me)
        say(f"there were no users yet: {me} is one now, with the roles {', '.join(_ROLES)}")
    user = books.find_user(me)
    if user is None or user.disabled:
        say(f"sign in with a password, or with the link of 'osp user link NAME --address {address}'")
        return None
    until = to_datetime(SystemClock().now()) + _LINK
    return f"{address}/sign-in?code={quote(await books.open_link(user.name, until, by=me))}"


def _settings(
    host: str, port: int, public_url: str | None, allow_hosts: tuple[str, ...], allow_self_approval: bool
) -> ServerSettings:
    try:
        from osprotocol.server.settings import ServerSettings
    except ImportError as error:  # FastAPI and its like
        raise CommandError(f"'osp serve' needs an extra that is not installed ({error.name}): "
                           "pip install 'osprotocol[server]'") from None  # fmt: skip
    return ServerSettings(
        host=host,
        port=port,
        public_url=public_url,
        allow_self_approval=allow_self_approval,
        allow_hosts=allow_hosts,
    )


def _log_to_stderr(*, requests: bool) -> None:
    """A line for what goes wrong, and if wanted for each request; the guard leaves query strings out."""
    from osprotocol.server.redaction import RedactingFilter

    handler = logging.StreamHandler()
    handler.addFilter(RedactingFilter())
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    access = logging.INFO if requests else logging.WARNING
    levels = {"osprotocol.access": access, "osprotocol.server": logging.WARNING, "uvicorn": logging.WARNING}
    for name, level in levels.items():
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.propagate = False
        logger.handlers = [handler]
