"""Commands about people: who may use a server, their tokens, and what everybody did."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from osprotocol import _limits
from osprotocol._clock import SystemClock, from_datetime, to_datetime, to_iso
from osprotocol.cli.command import command, group
from osprotocol.cli.exits import CommandError, ExitCode
from osprotocol.cli.output import ago, clean, say, to_json, until, write, write_json, write_table
from osprotocol.cli.session import Session
from osprotocol.cli.values import duration
from osprotocol.engine import operating_system_user
from osprotocol.errors import UserNotFoundError
from osprotocol.protocol._wire import Wire

if TYPE_CHECKING:
    from osprotocol._embedded.books import Books, User
    from osprotocol.client import Client

_LINE_CHARACTERS = 1_024
_LINK = timedelta(days=1)
ADDRESS_SETTING = "address"
"""Under which the books keep where the server was reached last."""

users = group("user", "People who may use a server of this database.")
tokens = group("token", "Tokens by which programs use a server for a person.")
audit = group("audit", "What people did.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The person's name, as votes show it.")]
Roles = Annotated[
    list[str] | None,
    typer.Option("--role", metavar="ROLE", help="viewer, operator, approver or admin; may be repeated."),
]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read a password from the first line of standard input.")
]


async def books_of(client: Client) -> Books:
    """The books in the database of a client's runs."""
    from osprotocol._embedded.books import Books
    from osprotocol._embedded.engine import EmbeddedEngine

    assert isinstance(client._engine, EmbeddedEngine), "of a server the books are its own"
    return await Books.open(client._engine)


@asynccontextmanager
async def _books(session: Session, *, create: bool = False) -> AsyncIterator[Books]:
    """The books of the session's database."""
    from osprotocol._embedded.books import Books

    if session.is_ledger:
        async with session.connect(create=True) as client:
            yield await books_of(client)
        return
    path = session.database()
    if path is None:
        raise CommandError(
            f"people are kept in the server's database, and {session.address!r} is a server: "
            "name the database with --db, or use the server's settings page"
        )
    if not create and not path.exists():
        message = f"there is no database at {path}; 'osp user add' makes one, --db names another"
        raise CommandError(message, "no-database", ExitCode.NOT_FOUND)
    books = await Books.open_file(path)
    try:
        yield books
    finally:
        await books.close()


def _password_hash() -> str:
    from osprotocol.server.passwords import hash_password

    if sys.stdin is None:
        raise CommandError("standard input is closed")
    return hash_password(sys.stdin.readline(_LINE_CHARACTERS).removesuffix("\n").removesuffix("\r"))


def _show(session: Session, told: Wire, text: str) -> None:
    write(to_json(told) if session.json else clean(text))


def _known(books: Books, name: str) -> User:
    user = books.find_user(name)
    if user is None:
        raise UserNotFoundError(name)
    return user


# ------------------------------------------------------------------------- user


@command("add", users)
async def user_add(session: Session, name: Name, role: Roles = None, password_stdin: PasswordStdin = False) -> None:
    """Let a person use the server.

    Without --role the person is a viewer. Without a password the person signs in by a link.
    """
    hashed = _password_hash() if password_stdin else None
    async with _books(session, create=True) as books:
        added = await books.add_user(name, role or ["viewer"], password_hash=hashed, by=operating_system_user())
    _show(session, added.info, f"{added.name} is {', '.join(added.roles)}")


@command("link", users)
async def user_link(
    session: Session,
    name: Name,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            metavar="URL",
            help="How that person's browser reaches the server. Default: the address that 'osp serve' told last.",
        ),
    ] = None,
) -> None:
    """Print a link that signs a person in once, within a day.

    Send it by a way that only that person reads.
    """
    if address is not None and not re.fullmatch(r"https?://[^\s/?#]+/?", address):
        raise CommandError(f"--address {address!r} is not like https://runs.example.org")
    expires = to_datetime(SystemClock().now()) + _LINK
    async with _books(session) as books:
        user = _known(books, name)
        secret = await books.open_link(user.name, expires, by=operating_system_user())
        address = address or books.setting(ADDRESS_SETTING) or "http://127.0.0.1:8321"
    link = f"{address.rstrip('/')}/sign-in?code={secret}"
    write(
        to_json({"user": user.name, "link": link, "expiresAt": to_iso(from_datetime(expires))})
        if session.json
        else link
    )


@command("list", users)
async def user_list(session: Session) -> None:
    """List the people who may use the server."""
    async with _books(session) as books:
        found = books.users()
    if session.json:
        write_json(user.info for user in found)
        return
    rows = [
        (
            user.name,
            ", ".join(user.roles),
            "disabled" if user.disabled else "",
            "password" if user.has_password else "",
            ago(user.created_at),
        )
        for user in found
    ]
    write_table(("NAME", "ROLES", "DISABLED", "SIGNS IN BY", "ADDED"), rows, "nobody yet; 'osp user add' adds somebody")


@command("change", users)
async def user_change(
    session: Session,
    name: Name,
    role: Roles = None,
    password_stdin: PasswordStdin = False,
    enable: Annotated[bool, typer.Option("--enable", help="Take back 'osp user disable'.")] = False,
) -> None:
    """Give a person other roles or another password.

    The roles that are given replace all earlier ones. A new password signs the person out everywhere.
    """
    if not role and not password_stdin and not enable:
        raise CommandError("nothing to change: give --role, --password-stdin or --enable")
    hashed = _password_hash() if password_stdin else None
    async with _books(session) as books:
        changed = await books.change_user(
            _known(books, name).name,
            roles=role or None,
            password_hash=hashed,
            disabled=False if enable else None,
            by=operating_system_user(),
        )
    _show(session, changed.info, f"{changed.name} is {', '.join(changed.roles)}")


@command("disable", users)
async def user_disable(session: Session, name: Name) -> None:
    """Refuse everything to a person from now on.

    Sessions, sign-in links and tokens stop working at once. What the person did stays.
    """
    async with _books(session) as books:
        disabled = await books.change_user(_known(books, name).name, disabled=True, by=operating_system_user())
    _show(session, disabled.info, f"{disabled.name} is disabled")


# ------------------------------------------------------------------------ token


@command("create", tokens)
async def token_create(
    session: Session,
    user: Annotated[str, typer.Option("--user", metavar="NAME", help="For whom it acts.")],
    label: Annotated[str, typer.Option("--label", metavar="TEXT", help="What it is for.")] = "",
    role: Roles = None,
    workflow: Annotated[
        list[str] | None,
        typer.Option("--workflow", metavar="NAME", help="Only runs of this workflow; may be repeated."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="DURATION", help="When it stops working: 30d, 12h.")
    ] = None,
) -> None:
    """Make a token and print it, once.

    Without --role it has all roles of its person. It is not stored: only a hash of it is.
    """
    ends = None if expires is None else to_datetime(SystemClock().now()) + duration(expires, "--expires")
    async with _books(session) as books:
        person = _known(books, user)
        token, secret = await books.add_token(
            person.name,
            label,
            role or person.roles,
            workflows=workflow or None,
            expires_at=ends,
            by=operating_system_user(),
        )
    if session.json:
        write(to_json({**token.info.to_wire(), "token": secret}))
        return
    write(secret)
    say(f"acts for {clean(token.user)} as {', '.join(token.roles)}; it is not shown again")


@command("list", tokens)
async def token_list(
    session: Session,
    user: Annotated[str | None, typer.Option("--user", metavar="NAME", help="Only this person's.")] = None,
) -> None:
    """List tokens, without their secrets."""
    async with _books(session) as books:
        found = books.tokens(user)
        now = to_datetime(SystemClock().now())
    if session.json:
        write_json(token.info for token in found)
        return
    rows = [
        (
            token.id,
            token.user,
            token.label,
            ", ".join(token.roles),
            "all" if token.workflows is None else ", ".join(token.workflows),
            ago(token.used_at),
            _end(token.expires_at, token.revoked_at, now),
        )
        for token in found
    ]
    write_table(("TOKEN", "FOR", "LABEL", "ROLES", "WORKFLOWS", "USED", "ENDS"), rows, "no tokens yet")


def _end(expires_at: datetime | None, revoked_at: datetime | None, now: datetime) -> str:
    if revoked_at is not None:
        return "revoked"
    if expires_at is not None and expires_at <= now:
        return "expired"
    return until(expires_at)


@command("revoke", tokens)
async def token_revoke(
    session: Session, token: Annotated[str, typer.Argument(metavar="ID", help="As 'osp token list' shows it.")]
) -> None:
    """Refuse a token from now on."""
    async with _books(session) as books:
        revoked = await books.revoke_token(token, by=operating_system_user())
    _show(session, revoked.info, f"{revoked.id} is revoked")


# ------------------------------------------------------------------------ audit


@command("list", audit)
async def audit_list(
    session: Session,
    by: Annotated[str | None, typer.Option("--by", metavar="NAME", help="Only what this person did.")] = None,
    run: Annotated[str | None, typer.Option("--run", metavar="RUN", help="Only what was done to this run.")] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="At most so many, the newest.")
    ] = _limits.PAGE_SIZE_DEFAULT,
) -> None:
    """List what people did, oldest first."""
    async with _books(session) as books:
        found = books.audit(by=by, run=run, limit=limit)[::-1]
    if session.json:
        write_json(found)
        return
    rows = [
        (one.number, ago(one.at), one.by, one.via, one.action, one.request_id or one.run_id, to_json(one.detail))
        for one in found
    ]
    write_table(("NUMBER", "AT", "BY", "VIA", "DID", "TO", "DETAIL"), rows, "nothing yet")


@command("verify", audit)
async def audit_verify(
    session: Session,
    head: Annotated[
        str | None,
        typer.Option("--head", metavar="NUMBER:HASH", help="As 'osp audit head' printed it some time ago."),
    ] = None,
) -> int:
    """Check that no record was changed, removed or moved; exit code 1 when one was.

    A log that was cut off at its end or made anew looks right by itself: note 'osp audit head' elsewhere and give
    it here.
    """
    noted = None if head is None else _head_of(head)
    async with _books(session) as books:
        broken = await books.verify_audit(noted)
        number, newest = books.audit_head()
    if session.json:
        write(to_json({"records": number, "broken": broken, "head": f"{number}:{newest}"}))
    elif broken is None:
        write(f"{number} records, all as they were written; head {number}:{newest}")
    elif broken > number:
        write(f"record {broken} is not there, the log ends with {number}: its end was cut off, or it is another log")
    else:
        write(f"record {broken} is not as it was written")
    return ExitCode.SUCCESS if broken is None else ExitCode.FAILED


def _head_of(text: str) -> tuple[int, str]:
    number, sign, noted = text.partition(":")
    if not sign or not (number.isascii() and number.isdigit()) or len(number) > 18:
        raise CommandError(f"--head: {text!r} is not NUMBER:HASH")
    return int(number), noted


@command("head", audit)
async def audit_head(session: Session) -> None:
    """Print number and hash of the newest record.

    Kept somewhere else, they show later whether the end of the log was cut off.
    """
    async with _books(session) as books:
        number, newest = books.audit_head()
    write(to_json({"number": number, "hash": newest}) if session.json else f"{number}:{newest}")
