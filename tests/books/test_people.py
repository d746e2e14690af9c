"""Users and tokens: who may act, and what stops counting at once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import apsw
import pytest

from osprotocol._embedded.transaction import Transaction
from osprotocol._ids import Ids
from osprotocol.errors import (
    InvalidNameError,
    InvalidOptionError,
    StoreError,
    TokenNotFoundError,
    UserExistsError,
    UserNotFoundError,
)
from osprotocol.protocol.http import ROLES
from osprotocol.server.access import Role
from osprotocol.testing import VirtualClock
from tests.books.opening import ahead, hide_next_commit, opened, refuse_next_commit


def test_the_roles_are_those_of_the_server() -> None:
    """Two rooms name them; they are the same, in the same order."""
    assert tuple(Role) == ROLES


async def test_a_user_is_found_under_every_spelling(tmp_path: Path) -> None:
    """Capitals, spaces around it and Unicode forms do not make another person."""
    async with opened(tmp_path) as books:
        added = await books.add_user("José", ["viewer", "admin", "viewer"], by="root")
        assert added.roles == ("viewer", "admin")
        for spelling in ("José", "JOSÉ", " josé ", "Jose\u0301"):
            assert books.find_user(spelling) == added
        assert books.find_user("Jose") is None
        assert books.users() == [added]


@pytest.mark.parametrize("spelling", ["ann", "ANN", "\uff41nn"])
async def test_no_two_users_look_alike(tmp_path: Path, spelling: str) -> None:
    """The second one is refused, and nothing is written."""
    async with opened(tmp_path) as books:
        await books.add_user("Ann", ["viewer"], by="root")
        with pytest.raises(UserExistsError, match="'Ann' already"):
            await books.add_user(spelling, ["admin"], by="root")
        assert [entry.action for entry in books.audit()] == ["user.add"]


@pytest.mark.parametrize("name", ["", " ", " ann", "a\nb", "a\u202eb", "a\udc80", "x" * 129])
async def test_a_name_that_cannot_be_shown_is_refused(tmp_path: Path, name: str) -> None:
    """Empty, invisible, reversed or too long."""
    async with opened(tmp_path) as books:
        with pytest.raises(InvalidNameError):
            await books.add_user(name, ["viewer"], by="root")


@pytest.mark.parametrize("roles", [[], ["root"], ["viewer", "Admin"]])
async def test_a_role_that_is_none_is_refused(tmp_path: Path, roles: list[str]) -> None:
    """So is a person without any."""
    async with opened(tmp_path) as books:
        with pytest.raises(InvalidOptionError, match="roles"):
            await books.add_user("ann", roles, by="root")


async def test_a_user_who_is_not_there_cannot_be_changed(tmp_path: Path) -> None:
    """Nor get a token, a session or a link."""
    async with opened(tmp_path) as books:
        for name in ("nobody", "no\udc80body"):
            with pytest.raises(UserNotFoundError):
                await books.change_user(name, disabled=True, by="root")
            with pytest.raises(UserNotFoundError):
                await books.add_token(name, "", ["viewer"], by="root")
            with pytest.raises(UserNotFoundError):
                await books.open_session(name, ahead(books))
            with pytest.raises(UserNotFoundError):
                await books.open_link(name, ahead(books))
            assert books.find_user(name) is None
            assert books.password_hash_of(name) is None


async def test_what_is_not_given_stays_as_it_is(tmp_path: Path) -> None:
    """Roles, password and being disabled change each for itself."""
    async with opened(tmp_path) as books:
        await books.add_user("ann", ["viewer"], password_hash="h1", by="root")
        assert (await books.change_user("ANN", roles=["admin"], by="root")).roles == ("admin",)
        assert (await books.change_user("ann", disabled=True, by="root")).disabled
        assert (await books.change_user("ann", password_hash="h2", by="root")).disabled
        user = await books.change_user("ann", disabled=False, by="root")
        assert (user.roles, user.disabled, user.has_password) == (("admin",), False, True)
        assert books.password_hash_of("Ann") == "h2"


async def test_no_record_holds_a_password(tmp_path: Path) -> None:
    """Nor its hash: only that there is a new one."""
    async with opened(tmp_path) as books:
        await books.add_user("ann", ["viewer"], password_hash="hash-1", by="root")
        await books.change_user("ann", password_hash="hash-2", by="root")
        assert [entry.detail["password"] for entry in books.audit()] == [True, True]
        assert "hash-" not in str(books.audit())


async def test_a_change_that_cannot_be_committed_leaves_neither_person_nor_record(tmp_path: Path) -> None:
    """Both are one transaction."""
    async with opened(tmp_path) as books:
        refuse_next_commit(books._engine)
        with pytest.raises(StoreError):
            await books.add_user("ann", ["viewer"], by="root")
        assert (books.users(), books.audit()) == ([], [])
        await books.add_user("ann", ["viewer"], by="root")


async def test_a_commit_of_unknown_outcome_is_read_back_by_its_record(tmp_path: Path) -> None:
    """No run changed with it; the record tells that it happened."""
    async with opened(tmp_path) as books:
        hide_next_commit(books._engine)
        assert (await books.add_user("ann", ["viewer"], by="root")).name == "ann"
        assert [user.name for user in books.users()] == ["ann"]
        assert await books.verify_audit() is None


async def test_what_is_refused_after_it_wrote_takes_that_back(tmp_path: Path) -> None:
    """Others share its commit, and theirs is kept."""
    async with opened(tmp_path) as books:

        def refused(transaction: Transaction) -> None:
            transaction.connection.execute("INSERT INTO settings VALUES ('half', 'done')")
            transaction.note("half.done", None, by="ann")
            raise InvalidOptionError("second half", "cannot be done")

        async def try_it() -> None:
            with pytest.raises(InvalidOptionError):
                await books._write(refused)

        await asyncio.gather(try_it(), books.set_setting("whole", "done"))
        assert (books.setting("half"), books.setting("whole")) == (None, "done")
        assert books.audit() == []


# --------------------------------------------------------------------------- tokens


async def test_a_token_is_found_by_its_secret_and_by_nothing_else(tmp_path: Path) -> None:
    """Every other text is nobody's, whatever it looks like."""
    async with opened(tmp_path) as books:
        await books.add_user("ann", ["viewer", "operator"], by="root")
        token, secret = await books.add_token("Ann", "ci", ["operator"], workflows=["b", "a"], by="root")
        assert secret.startswith(f"osp_{token.id}_")
        assert len(secret.rpartition("_")[2]) * 5 >= 256
        found = books.find_token(secret)
        assert found is not None
        assert (found.user, found.label, found.roles, found.workflows) == ("ann", "ci", ("operator",), ("a", "b"))
        wrong = secret[:-1] + ("0" if secret[-1] != "0" else "1")
        for text in (wrong, secret + "0", secret.upper(), f"osp_{token.id}_", token.id, "osp", "", "\udc80", "osp_é_é"):
            assert books.find_token(text) is None


async def test_no_secret_is_in_the_database(tmp_path: Path) -> None:
    """Whoever copies the file cannot act with it."""
    async with opened(tmp_path) as books:
        await books.add_user("ann", ["viewer"], by="root")
        secrets = [(await books.add_token("ann", "", ["viewer"], by="root"))[1].rpartition("_")[2]]
        secrets.append(await books.open_session("ann", ahead(books)))
        secrets.append(await books.open_link("ann", ahead(books)))
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert not [secret for secret in secrets if secret.encode() in files]


def test_secrets_are_not_repeated() -> None:
    """Each has 256 bits of its own."""
    ids = Ids()
    made = {ids.secret() for _ in range(500)}
    assert len(made) == 500
    assert {len(secret) for secret in made} == {52}


async def test_secrets_do_not_come_from_the_engines_ids(tmp_path: Path) -> None:
    """Those are repeatable in tests; two books with the same ids make different secrets."""
    made = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        async with opened(tmp_path / name) as books:
            books._engine.ids = Ids(seed=1)
            await books.add_user("ann", ["viewer"], by="root")
            made.add(await books.open_session("ann", ahead(books)))
    assert len(made) == 2


@pytest.mark.parametrize("how", ["expires", "revoked", "disabled"])
async def test_a_token_stops_counting(tmp_path: Path, how: str) -> None:
    """When it expires, is revoked, or its person is disabled."""
    clock = VirtualClock()
    async with opened(tmp_path, clock) as books:
        await books.add_user("ann", ["viewer"], by="root")
        token, secret = await books.add_token("ann", "", ["viewer"], expires_at=ahead(books), by="root")
        assert books.find_token(secret) is not None
        if how == "expires":
            await clock.advance(timedelta(days=1))
        elif how == "revoked":
            assert (await books.revoke_token(token.id, "root")).revoked_at is not None
        else:
            await books.change_user("ann", disabled=True, by="root")
        assert books.find_token(secret) is None
        assert [one.id for one in books.tokens("ANN")] == [token.id]
        assert books.tokens("bob") == []


async def test_a_role_that_its_person_loses_is_lost_by_the_token_at_once(tmp_path: Path) -> None:
    """And is back when the person has it again."""
    async with opened(tmp_path) as books:
        await books.add_user("ann", ["viewer", "operator"], by="root")
        _, secret = await books.add_token("ann", "", ["viewer", "operator"], by="root")
        for roles in (("viewer",), ("viewer", "operator"), ("admin",)):
            await books.change_user("ann", roles=roles, by="root")
            found = books.find_token(secret)
            assert found is not None
            assert found.roles == tuple(role for role in ("viewer", "operator") if role in roles)


@pytest.mark.parametrize(
    "wrong",
    [
        {"roles": ["admin"]},
        {"label": "x" * 300},
        {"label": "two\nlines"},
        {"workflows": ["no workflow"]},
    ],
)
async def test_a_token_that_makes_no_sense_is_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    """More than its person may, a label that cannot be shown, a workflow that cannot be."""
    async with opened(tmp_path) as books:
        await books.add_user("ann", ["viewer"], by="root")
        options: dict[str, object] = {"label": "", "roles": ["viewer"], **wrong}
        with pytest.raises((InvalidOptionError, InvalidNameError)):
            await books.add_token("ann", by="root", **options)  # type: ignore[arg-type]
        assert books.tokens() == []


async def test_a_token_that_is_over_already_is_refused(tmp_path: Path) -> None:
    """Its end is before now."""
    async with opened(tmp_path) as books:
        await books.add_user("ann", ["viewer"], by="root")
        with pytest.raises(InvalidOptionError, match="expires_at"):
            await books.add_token("ann", "", ["viewer"], expires_at=ahead(books, timedelta(0)), by="root")


async def test_revoking_again_changes_nothing(tmp_path: Path) -> None:
    """One record, and the first instant stays."""
    clock = VirtualClock()
    async with opened(tmp_path, clock) as books:
        await books.add_user("ann", ["viewer"], by="root")
        token, _ = await books.add_token("ann", "", ["viewer"], by="root")
        first = await books.revoke_token(token.id, "root")
        await clock.advance(timedelta(hours=1))
        assert await books.revoke_token(token.id, "root") == first
        assert [entry.action for entry in books.audit()].count("token.revoke") == 1
        for unknown in ("nothing", "\udc80"):
            with pytest.raises(TokenNotFoundError, match="no token with the id"):
                await books.revoke_token(unknown, "root")


async def test_that_a_token_was_used_is_written_at_most_once_a_minute(tmp_path: Path) -> None:
    """However often it is used."""
    clock = VirtualClock()
    async with opened(tmp_path, clock) as books:
        await books.add_user("ann", ["viewer"], by="root")
        _, secret = await books.add_token("ann", "", ["viewer"], by="root")
        writes, seen = [], []
        for seconds in (0, 30, 29, 1, 59, 1):
            await clock.advance(timedelta(seconds=seconds))
            before = books._engine.store.commits
            for _ in range(5):
                assert books.find_token(secret) is not None
            await books._engine.writer.drain()
            writes.append(books._engine.store.commits - before)
            seen.append(books.tokens()[0].used_at)
        assert writes == [1, 0, 0, 1, 0, 1]
        assert seen[0] == seen[2] < seen[3] == seen[4] < seen[5]  # type: ignore[operator]


async def test_the_wire_forms_tell_the_same(tmp_path: Path) -> None:
    """Without any secret."""
    async with opened(tmp_path) as books:
        user = await books.add_user("ann", ["viewer"], password_hash="x", by="root")
        token, _ = await books.add_token("ann", "ci", ["viewer"], by="root")
        assert user.info.to_wire() == {
            "name": "ann",
            "roles": ["viewer"],
            "createdAt": "2026-01-01T00:00:00.000Z",
            "disabled": False,
            "hasPassword": True,
        }
        assert token.info.to_wire() == {
            "id": token.id,
            "user": "ann",
            "label": "ci",
            "roles": ["viewer"],
            "workflows": None,
            "createdAt": "2026-01-01T00:00:00.000Z",
            "expiresAt": None,
            "usedAt": None,
            "revokedAt": None,
        }


async def test_the_database_refuses_a_second_identity(tmp_path: Path) -> None:
    """Whatever writes the row."""
    async with opened(tmp_path) as books:
        await books.add_user("ann", ["viewer"], by="root")
        connection = apsw.Connection(str(books._engine.store.path))
        with pytest.raises(apsw.ConstraintError):
            connection.execute("INSERT INTO users (name, identity, roles, created_at) VALUES ('Ann', 'ann', '[]', 0)")
        connection.close()
