"""The books of a server: people, tokens, sessions, sign-in links, replies, settings and the audit log."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from osprotocol import _limits
from osprotocol._clock import Clock, from_datetime, to_datetime
from osprotocol._embedded.accounts import Accounts, do, hash_of, known_user, user_of_row
from osprotocol._embedded.accounts import Token as Token
from osprotocol._embedded.accounts import User as User
from osprotocol._embedded.audit import first_break
from osprotocol._embedded.database import open_reader, translated
from osprotocol._embedded.engine import EmbeddedEngine
from osprotocol._embedded.queries import QUERIES
from osprotocol._embedded.transaction import REPLY_KEPT_US, Transaction
from osprotocol._json import decode
from osprotocol.engine import Acting, acting
from osprotocol.errors import InvalidOptionError
from osprotocol.protocol.http import AuditEntry

_NO_NUMBER = (1 << 63) - 1


class SignedIn(NamedTuple):
    """A browser session.

    Attributes:
        hash: of its secret; the session's name for everything but finding it.
        seen_at: within a minute.
    """

    hash: str
    user: User
    created_at: datetime
    seen_at: datetime
    expires_at: datetime


class Reply(NamedTuple):
    """What is known of a request that came with an Idempotency-Key.

    Attributes:
        digest: of that request.
        run: what it changed.
        status: HTTP status of the answer; None when the change is committed and its answer got lost.
        body: the answer; None when it was too large to be kept.
    """

    digest: str
    run: str | None
    status: int | None
    body: str | None


class Books(Accounts):
    """What a server keeps besides runs. Instants are aware datetimes.

    Example:
        >>> books = await Books.open(engine)  # doctest: +SKIP
        >>> await books.add_user("ann", ["approver"], by="root")  # doctest: +SKIP
    """

    def __init__(self, engine: EmbeddedEngine, *, owned: bool = False) -> None:
        super().__init__(engine)
        self._owned = owned
        self._verifying = asyncio.Lock()

    @classmethod
    async def open(cls, engine: EmbeddedEngine) -> Books:
        """The books in the database of an embedded engine, which stays open when they are closed."""
        return cls(engine)

    @classmethod
    async def open_file(cls, path: Path, *, clock: Clock | None = None) -> Books:
        """Books in a file of their own, for a server whose runs are elsewhere."""
        engine = EmbeddedEngine(path, clock=clock)
        try:
            await engine.begin(worker=False, log_level=logging.INFO)
        except BaseException:
            await engine.close()
            raise
        return cls(engine, owned=True)

    async def close(self) -> None:
        """Finish what is being written; close the file if it is their own."""
        if self._owned:
            await self._engine.close()

    # ----------------------------------------------------------------- sessions

    async def open_session(self, user: str, expires_at: datetime) -> str:
        """Sign a person in; gives the secret that the browser gets as a cookie.

        Raises:
            UserNotFoundError: there is no such person.
            InvalidOptionError: the person is disabled.

        Survives a crash: the session.
        """
        secret, until = self._ids.secret(), from_datetime(expires_at)

        def add(transaction: Transaction) -> None:
            key = _enabled(transaction, user)
            now = transaction.now
            do(transaction, "forget_sessions", now)
            do(transaction, "add_session", hash_of(secret), key, now, now, until)

        await self._write(add)
        return secret

    def find_session(self, secret: str) -> SignedIn | None:
        """The session, if it is open and its person is not disabled; roles are those of now."""
        hashed = hash_of(secret)
        rows = self._rows("find_session", hashed, self._engine.clock.now())
        people = self._rows("user_by_key", rows[0][0]) if rows else []
        user = user_of_row(people[0]) if people else None
        if user is None or user.disabled:
            return None
        created_at, seen_at, expires_at = map(to_datetime, rows[0][1:])
        return SignedIn(hashed, user, created_at, seen_at, expires_at)

    async def touch_session(self, session: str) -> None:
        """Write that a session, named by its hash, is in use; does nothing within a minute of the time before."""
        now = self._engine.clock.now()
        rows = self._rows("find_session", session, now)
        if rows and self._is_news(session, rows[0][2], now):
            await self._write(lambda transaction: do(transaction, "touch_session", session, now))

    async def close_session(self, session: str) -> None:
        """Sign out the session that has this hash."""
        self._used.pop(session, None)
        await self._write(lambda transaction: do(transaction, "close_session", session))

    async def close_sessions(self, user: str) -> None:
        """Sign a person out everywhere.

        Raises:
            UserNotFoundError: there is no such person.
        """
        await self._write(lambda transaction: do(transaction, "close_sessions", known_user(transaction, user)[0]))

    # -------------------------------------------------------------------- links

    async def open_link(self, user: str, expires_at: datetime, *, by: str = "") -> str:
        """Make a sign-in link that works once; gives its secret.

        Raises:
            UserNotFoundError: there is no such person.
            InvalidOptionError: the person is disabled.

        Survives a crash: it is done, with its audit record, or not.
        """
        secret, until = self._ids.secret(), from_datetime(expires_at)

        def add(transaction: Transaction) -> None:
            key = _enabled(transaction, user)
            do(transaction, "forget_links", transaction.now)
            do(transaction, "add_link", hash_of(secret), key, until)
            transaction.note("link.add", acting.get(), None, {"user": user}, by=by or self._engine.person)

        await self._write(add)
        return secret

    async def use_link(self, secret: str) -> User | None:
        """The person whom a sign-in link signs in; None when it is unknown, used, expired or the person disabled."""
        hashed = hash_of(secret)
        if not self._rows("find_link", hashed, self._engine.clock.now()):
            return None  # guessing costs no commit

        def use(transaction: Transaction) -> User | None:
            rows = transaction.rows("find_link", hashed, transaction.now)
            user = user_of_row(transaction.rows("user_by_key", rows[0][0])[0]) if rows else None
            if user is None or user.disabled:
                return None
            do(transaction, "use_link", hashed, transaction.now)
            return user

        return await self._write(use)

    # ------------------------------------------------------------------ replies

    def find_reply(self, key: str) -> Reply | None:
        """What was answered under an Idempotency-Key in the last 24 hours."""
        rows = self._rows("find_reply", key, self._engine.clock.now() - REPLY_KEPT_US)
        return Reply(*rows[0]) if rows else None

    async def keep_reply(self, key: str, digest: str, status: int, body: str | None) -> None:
        """Keep the answer to a request; the key itself was kept with the change, if there was one."""

        def keep(transaction: Transaction) -> None:
            do(transaction, "forget_replies", transaction.now - REPLY_KEPT_US)
            do(transaction, "answer_reply", key, digest, transaction.now, status, body)

        await self._write(keep)

    # -------------------------------------------------------------------- audit

    async def note(self, action: str, by: str, via: str, detail: object = None) -> None:
        """Write down what is no command: somebody signed in, or failed to.

        Survives a crash: the record.
        """
        who = Acting(_plain(by), _plain(via))
        await self._write(lambda transaction: transaction.note(action, who, None, detail))

    def audit(
        self,
        *,
        by: str | None = None,
        run: str | None = None,
        request: str | None = None,
        before: int | None = None,
        limit: int = _limits.PAGE_SIZE_DEFAULT,
    ) -> list[AuditEntry]:
        """Records with a number below `before`, newest first: of a person, a run, a request."""
        start = _NO_NUMBER if before is None else before
        run = request.rpartition("-")[0] if run is None and request is not None else run
        if run is not None:
            rows = self._rows("audit_of_run", start, run, by, request, limit)
        else:
            rows = self._rows("audit_page", start, by, limit)
        return [_entry(row) for row in rows]

    def audit_head(self) -> tuple[int, str]:
        """Number and hash of the newest record; noted elsewhere, they show later whether the end was cut off."""
        rows = self._rows("newest_audit", 1)
        return rows[0] if rows else (0, "")

    async def verify_audit(self, head: tuple[int, str] | None = None) -> int | None:
        """The number of the first record that is not as it was written; None when all are.

        Args:
            head: number and hash as `audit_head` gave them some time ago; without them a log that was cut off at its
                end, or made anew from the start, looks right.
        """
        async with self._verifying:  # it takes long: however many ask, it keeps one thread busy
            return await asyncio.to_thread(verify_audit, self._engine.store.path, head)

    # ----------------------------------------------------------------- settings

    def setting(self, name: str) -> str | None:
        """What a server keeps about itself under a name."""
        rows = self._rows("find_setting", name)
        return rows[0][0] if rows else None

    async def set_setting(self, name: str, value: str, *, only_new: bool = False) -> str:
        """Keep something under a name; gives what is kept now, which with `only_new` is what was there before."""

        def put(transaction: Transaction) -> str:
            do(transaction, "add_setting" if only_new else "put_setting", name, value)
            kept: str = transaction.rows("find_setting", name)[0][0]
            return kept

        return await self._write(put)


def verify_audit(path: Path, head: tuple[int, str] | None = None) -> int | None:
    """As `Books.verify_audit`, on a connection of its own."""
    with translated(path):
        connection = open_reader(path)
        try:
            connection.execute("BEGIN")  # one state of the log, while others write
            broken = first_break(connection.execute(QUERIES["whole_audit"]))
            if broken is None and head is not None and head != (0, ""):
                row = connection.execute(QUERIES["audit_hash"], head[:1]).fetchone()
                broken = None if row == head[1:] else head[0]
        finally:
            connection.close()
    return broken


def _enabled(transaction: Transaction, name: str) -> int:
    key, user = known_user(transaction, name)
    if user.disabled:
        raise InvalidOptionError("user", f"{user.name} is disabled")
    return key


def _plain(text: str) -> str:
    """What somebody sent as a name, so that it can be stored."""
    return text[: _limits.NAME_CHARACTERS].encode("utf-8", "replace").decode() or "unknown"


def _entry(row: tuple[Any, ...]) -> AuditEntry:
    number, at, by, via, action, run, request, detail, hashed = row
    return AuditEntry(
        number=number,
        at=to_datetime(at),
        by=by,
        via=via,
        action=action,
        run_id=run,
        request_id=request,
        detail=decode(detail),
        hash=hashed,
    )
