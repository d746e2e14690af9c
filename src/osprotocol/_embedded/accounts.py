"""Who may act through a server: users, and the tokens by which programs act for them."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from osprotocol import _limits
from osprotocol._clock import US_PER_S, from_datetime, to_datetime
from osprotocol._embedded.engine import EmbeddedEngine
from osprotocol._embedded.queries import QUERIES
from osprotocol._embedded.store import Operation
from osprotocol._embedded.transaction import Transaction
from osprotocol._ids import Ids, check_name
from osprotocol._json import decode, encode
from osprotocol._lifecycle.people import check_person, identity
from osprotocol.engine import acting
from osprotocol.errors import (
    InvalidNameError,
    InvalidOptionError,
    TokenNotFoundError,
    UserExistsError,
    UserNotFoundError,
)
from osprotocol.protocol.http import ROLES, TokenInfo, UserInfo

T = TypeVar("T")

_SEEN_EVERY_US = 60 * US_PER_S
_REMEMBERED = 10_000
_SHOWN = 40  # characters of a name or id that there is none of
_PREFIX = "osp"
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Letters and marks that are not shown, although Unicode does not count them among the unprintable."""


@dataclass(frozen=True, slots=True)
class User:
    """A person who may sign in.

    Attributes:
        roles: in the order viewer, operator, approver, admin.
        disabled: everything is refused to this person.
        has_password: signing in by password is possible.
    """

    name: str
    roles: tuple[str, ...]
    created_at: datetime
    disabled: bool = False
    has_password: bool = False

    @property
    def info(self) -> UserInfo:
        """The wire form."""
        return UserInfo(
            name=self.name,
            roles=self.roles,
            created_at=self.created_at,
            disabled=self.disabled,
            has_password=self.has_password,
        )


@dataclass(frozen=True, slots=True)
class Token:
    """What a program shows to act for a person.

    Attributes:
        id: the part of it that is no secret.
        roles: those that it was made with; `Accounts.find_token` leaves out what its person has no longer.
        workflows: the only ones whose runs are there for it; None means all.
        used_at: within a minute.
    """

    id: str
    user: str
    label: str
    roles: tuple[str, ...]
    workflows: tuple[str, ...] | None
    created_at: datetime
    expires_at: datetime | None = None
    used_at: datetime | None = None
    revoked_at: datetime | None = None

    @property
    def info(self) -> TokenInfo:
        """The wire form."""
        return TokenInfo(
            id=self.id,
            user=self.user,
            label=self.label,
            roles=self.roles,
            workflows=self.workflows,
            created_at=self.created_at,
            expires_at=self.expires_at,
            used_at=self.used_at,
            revoked_at=self.revoked_at,
        )


class Accounts:
    """Users and tokens in the database of an engine.

    What reads gives what is committed; what writes is durable when it returns, with its audit record.
    """

    def __init__(self, engine: EmbeddedEngine) -> None:
        self._engine = engine
        self._ids = Ids()  # of its own: secrets are never reproducible, not even where the engine's ids are
        self._used: dict[str, int] = {}

    # -------------------------------------------------------------------- users

    def users(self) -> list[User]:
        """Everybody, by name."""
        return [user_of_row(row) for row in self._rows("all_users")]

    def find_user(self, name: str) -> User | None:
        """The person of that name, however it is spelled in capitals and Unicode forms."""
        rows = self._rows("find_user", identity(name))
        return user_of_row(rows[0]) if rows else None

    def password_hash_of(self, name: str) -> str | None:
        """What was stored as the hash of that person's password."""
        rows = self._rows("password_of", identity(name))
        return rows[0][0] if rows else None

    async def add_user(self, name: str, roles: Iterable[str], *, password_hash: str | None = None, by: str) -> User:
        """Let a person sign in.

        Raises:
            UserExistsError: there is such a person.
            InvalidOptionError: a role is none.
            InvalidNameError: the name cannot be one.

        Survives a crash: it is done, with its audit record, or not.
        """
        given, known_as = _roles(roles), _check_name(name)

        def add(transaction: Transaction) -> User:
            if rows := transaction.rows("find_user", known_as):
                raise UserExistsError(user_of_row(rows[0]).name)
            do(transaction, "add_user", name, known_as, encode(given), password_hash, transaction.now)
            detail = {"user": name, "roles": given, "password": password_hash is not None}
            transaction.note("user.add", acting.get(), None, detail, by=by)
            return user_of_row(transaction.rows("find_user", known_as)[0])

        return await self._write(add)

    async def change_user(
        self,
        name: str,
        *,
        roles: Iterable[str] | None = None,
        password_hash: str | None = None,
        disabled: bool | None = None,
        by: str,
        keep_an_admin: bool = False,
    ) -> User:
        """Change what is given. A new password and disabling close the person's sessions and sign-in links.

        Args:
            name: of the person.
            roles: the new ones; None leaves them as they are.
            password_hash: of the new password; None leaves the old one.
            disabled: whether the person is refused; None leaves that as it is.
            by: who changes it.
            keep_an_admin: refuse what would leave nobody who could undo it.

        Raises:
            UserNotFoundError: there is no such person.
            InvalidOptionError: a role is none, or it is the only admin.

        Survives a crash: it is done, with its audit record, or not.
        """
        given = None if roles is None else _roles(roles)

        def change(transaction: Transaction) -> User:
            key, user = known_user(transaction, name)
            detail: dict[str, Any] = {"user": user.name}
            if given is not None:
                do(transaction, "set_roles", key, encode(given))
                detail |= {"roles": given, "rolesBefore": user.roles}
            if password_hash is not None:
                do(transaction, "set_password", key, password_hash)
                detail["password"] = True
            if disabled is not None:
                do(transaction, "set_disabled", key, transaction.now if disabled else None)
                detail["disabled"] = disabled
            if password_hash is not None or disabled:
                do(transaction, "close_sessions", key)
                do(transaction, "close_links", key)
            everybody = map(user_of_row, transaction.rows("all_users"))
            if keep_an_admin and not any("admin" in one.roles and not one.disabled for one in everybody):
                raise InvalidOptionError("user", f"{user.name} is the only admin; make another person admin before")
            transaction.note("user.change", acting.get(), None, detail, by=by)
            return user_of_row(transaction.rows("user_by_key", key)[0])

        return await self._write(change)

    # ------------------------------------------------------------------- tokens

    def tokens(self, user: str | None = None) -> list[Token]:
        """Everybody's, or one person's, oldest first; revoked and expired ones too."""
        found = [_token(row) for row in self._rows("all_tokens")]
        return found if user is None else [token for token in found if identity(token.user) == identity(user)]

    def find_token(self, secret: str) -> Token | None:
        """The token, if it is one that counts: known, not expired, not revoked, its person not disabled.

        Its roles are those that its person still has. That it was used is written at most once a minute.
        """
        prefix, _, rest = secret.partition("_")
        token_id, _, _ = rest.partition("_")
        rows = self._rows("find_token", token_id) if prefix == _PREFIX else []
        stored, roles, disabled_at, *columns = rows[0] if rows else ("", "[]", None)
        # Compared even where there is nothing, so that the time taken tells nothing.
        matches = hmac.compare_digest(stored, hash_of(secret))
        if not rows or not matches or disabled_at is not None:
            return None
        token, now = _token(columns), self._engine.clock.now()
        if token.revoked_at is not None or (token.expires_at is not None and from_datetime(token.expires_at) <= now):
            return None
        self._note_use(token, now)
        kept = tuple(role for role in token.roles if role in decode(roles))
        return replace(token, roles=kept)

    def _note_use(self, token: Token, now: int) -> None:
        stored = 0 if token.used_at is None else from_datetime(token.used_at)
        if not self._is_news(token.id, stored, now):
            return
        touch = Operation(lambda transaction: do(transaction, "touch_token", token.id, now))
        self._engine.writer.put(touch, lazy=True)

    async def add_token(
        self,
        user: str,
        label: str,
        roles: Iterable[str],
        *,
        workflows: Iterable[str] | None = None,
        expires_at: datetime | None = None,
        by: str,
    ) -> tuple[Token, str]:
        """Make a token for a person; its secret text is given once and not kept.

        Args:
            user: for whom it acts.
            label: what it is for.
            roles: at most those of the person.
            workflows: the only ones whose runs are there for it; None means all.
            expires_at: from when on it is refused; None means never.
            by: who makes it.

        Raises:
            UserNotFoundError: there is no such person.
            InvalidOptionError: a role is not the person's.

        Survives a crash: it is done, with its audit record, or not.
        """
        token_id = self._ids.token_id()
        secret = f"{_PREFIX}_{token_id}_{self._ids.secret()}"
        given, only = _roles(roles), None if workflows is None else sorted(set(workflows))
        until = None if expires_at is None else from_datetime(expires_at)
        for name in only or ():
            check_name(name, "workflow name")
        if len(label) > _limits.LABEL_VALUE_CHARACTERS or not label.isprintable():
            raise InvalidOptionError("label", f"must be at most {_limits.LABEL_VALUE_CHARACTERS} visible characters")

        def add(transaction: Transaction) -> Token:
            key, person = known_user(transaction, user)
            beyond = [role for role in given if role not in person.roles]
            if beyond:
                raise InvalidOptionError("roles", f"{person.name} is no {' or '.join(beyond)}")
            if until is not None and until <= transaction.now:
                raise InvalidOptionError("expires_at", "is over already")
            listed = None if only is None else encode(only)
            values = (token_id, key, label, hash_of(secret), encode(given), listed, transaction.now, until)
            do(transaction, "add_token", *values)
            detail = {"token": token_id, "user": person.name, "label": label, "roles": given, "workflows": only}
            transaction.note("token.add", acting.get(), None, detail, by=by)
            return _token(transaction.rows("find_token", token_id)[0][3:])

        return await self._write(add), secret

    async def revoke_token(self, token_id: str, by: str) -> Token:
        """Refuse a token from now on; one that is revoked already stays as it is.

        Raises:
            TokenNotFoundError: there is none with that id.

        Survives a crash: it is done, with its audit record, or not.
        """

        def revoke(transaction: Transaction) -> Token:
            rows = transaction.rows("find_token", token_id) if token_id.isprintable() else []
            if not rows:
                raise TokenNotFoundError(token_id[:_SHOWN])
            token = _token(rows[0][3:])
            if token.revoked_at is not None:
                return token
            do(transaction, "revoke_token", token_id, transaction.now)
            transaction.note("token.revoke", acting.get(), None, {"token": token_id, "user": token.user}, by=by)
            return _token(transaction.rows("find_token", token_id)[0][3:])

        return await self._write(revoke)

    # ------------------------------------------------------------------ at work

    def _is_news(self, what: str, stored: int, now: int) -> bool:
        """Whether it is to be written that a token or session is in use; True once a minute."""
        if 0 <= now - max(stored, self._used.get(what, 0)) < _SEEN_EVERY_US:
            return False
        if len(self._used) >= _REMEMBERED:
            self._used.clear()
        self._used[what] = now
        return True

    def _rows(self, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        return self._engine.store.rows(query, arguments)

    async def _write(self, run: Callable[[Transaction], T]) -> T:
        who = acting.get()

        def whole(transaction: Transaction) -> T:
            # The commit runs in the context of whoever opened the group, or in a thread: say again who acts.
            mark = acting.set(who)
            try:
                # Others share the commit: what is refused after it wrote must take that back by itself.
                with transaction.connection:
                    result = run(transaction)
            finally:
                acting.reset(mark)
            return result

        return await self._engine.writer.execute(whole, human=True)


def hash_of(secret: str) -> str:
    """What is kept of a secret. It has 256 random bits, so that a plain hash is enough."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def known_user(transaction: Transaction, name: str) -> tuple[int, User]:
    """Row and person of a name.

    Raises:
        UserNotFoundError: there is none.
    """
    rows = transaction.rows("find_user", identity(name)) if name.isprintable() else []
    if not rows:
        raise UserNotFoundError(name[:_SHOWN])
    return rows[0][0], user_of_row(rows[0])


def user_of_row(row: tuple[Any, ...]) -> User:
    """A row of ``users`` as the queries give it."""
    _, name, roles, has_password, created_at, disabled_at = row
    return User(name, tuple(decode(roles)), to_datetime(created_at), disabled_at is not None, bool(has_password))


def do(transaction: Transaction, query: str, *arguments: object) -> None:
    """Run a named query that writes, at once."""
    transaction.connection.execute(QUERIES[query], arguments)


def _token(row: Iterable[Any]) -> Token:
    token_id, user, label, roles, workflows, *instants = row
    only = None if workflows is None else tuple(decode(workflows))
    created_at, *later = (None if instant is None else to_datetime(instant) for instant in instants)
    assert created_at is not None
    return Token(token_id, user, label, tuple(decode(roles)), only, created_at, *later)


def _roles(given: Iterable[str]) -> tuple[str, ...]:
    """Roles in their order, each once.

    Raises:
        InvalidOptionError: one of them is none, or there are none.
    """
    wanted = {str(role) for role in given}
    strange = sorted(wanted - set(ROLES))
    if strange or not wanted:
        problem = f"{strange[0][:40]!r} is no role" if strange else "at least one is needed"
        raise InvalidOptionError("roles", f"{problem}; roles are {', '.join(ROLES)}")
    return tuple(role for role in ROLES if role in wanted)


def _check_name(name: str) -> str:
    known_as = check_person(name)
    if not name.isprintable() or name != name.strip() or _UNSEEN.search(name):
        raise InvalidNameError("name of a user", name[:40], "it has characters that cannot be seen")
    return known_as
