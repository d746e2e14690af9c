"""Sessions, sign-in links, replies and settings."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from osprotocol import connect
from osprotocol._embedded.books import Books, Reply
from osprotocol.errors import InvalidOptionError, StoreError
from osprotocol.testing import VirtualClock
from tests.books.opening import ahead, engine_of, opened, refuse_next_commit


async def test_a_session_is_found_by_its_secret(tmp_path: Path) -> None:
    """With its person as that is now, and a hash as its name."""
    async with opened(tmp_path) as books:
        await books.add_user("ann", ["viewer"], by="root")
        secret = await books.open_session("ANN", ahead(books))
        await books.change_user("ann", roles=["admin"], by="root")
        found = books.find_session(secret)
        assert found is not None
        assert (found.user.name, found.user.roles, found.expires_at) == ("ann", ("admin",), ahead(books))
        assert secret not in repr(found)
        assert books.find_session(found.hash) is None
        assert books.find_session("\udc80") is None


@pytest.mark.parametrize("how", ["expired", "closed", "all closed", "disabled", "new password"])
async def test_a_session_ends(tmp_path: Path, how: str) -> None:
    """By time, by sign-out, and with what makes it unsafe."""
    clock = VirtualClock()
    async with opened(tmp_path, clock) as books:
        await books.add_user("ann", ["viewer"], by="root")
        await books.add_user("bob", ["viewer"], by="root")
        secret, others = (
            await books.open_session("ann", ahead(books)),
            await books.open_session("bob", ahead(books, timedelta(days=2))),
        )
        found = books.find_session(secret)
        assert found is not None
        match how:
            case "expired":
                await clock.advance(timedelta(days=1))
            case "closed":
                await books.close_session(found.hash)
            case "all closed":
                await books.close_sessions("Ann")
            case "disabled":
                await books.change_user("ann", disabled=True, by="root")
            case _:
                await books.change_user("ann", password_hash="new", by="root")
        assert books.find_session(secret) is None
        assert books.find_session(others) is not None
        if how == "disabled":
            await books.change_user("ann", disabled=False, by="root")
            assert books.find_session(secret) is None


async def test_a_role_changes_without_signing_out(tmp_path: Path) -> None:
    """It takes effect at once, in the same session."""
    async with opened(tmp_path) as books:
        await books.add_user("ann", ["admin"], by="root")
        secret = await books.open_session("ann", ahead(books))
        await books.change_user("ann", roles=["viewer"], by="root")
        found = books.find_session(secret)
        assert found is not None
        assert found.user.roles == ("viewer",)


async def test_that_a_session_is_in_use_is_written_at_most_once_a_minute(tmp_path: Path) -> None:
    """So that reading pages costs no commits."""
    clock = VirtualClock()
    async with opened(tmp_path, clock) as books:
        await books.add_user("ann", ["viewer"], by="root")
        secret = await books.open_session("ann", ahead(books))
        found = books.find_session(secret)
        assert found is not None
        for seconds, written in ((59, 0), (1, 1), (59, 0), (1, 1)):
            await clock.advance(timedelta(seconds=seconds))
            before = books._engine.store.commits
            for _ in range(3):
                await books.touch_session(found.hash)
            assert books._engine.store.commits - before == written
        again = books.find_session(secret)
        assert again is not None
        assert again.seen_at - found.seen_at == timedelta(minutes=2)
        await books.touch_session("unknown")


async def test_sessions_that_expired_are_removed(tmp_path: Path) -> None:
    """With the next sign-in."""
    clock = VirtualClock()
    async with opened(tmp_path, clock) as books:
        await books.add_user("ann", ["viewer"], by="root")
        for _ in range(3):
            await books.open_session("ann", ahead(books))
            await books.open_link("ann", ahead(books))
            await clock.advance(timedelta(days=2))
        assert books._engine.store.rows("SELECT count(*) FROM sessions") == [(1,)]
        assert books._engine.store.rows("SELECT count(*) FROM links") == [(1,)]


# ---------------------------------------------------------------------------- links


async def test_a_link_works_once(tmp_path: Path) -> None:
    """Also when two use it at the same moment."""
    async with opened(tmp_path) as books:
        await books.add_user("ann", ["viewer"], by="root")
        secret = await books.open_link("ann", ahead(books), by="root")
        used = await asyncio.gather(books.use_link(secret), books.use_link(secret))
        assert sorted(user.name for user in used if user is not None) == ["ann"]
        assert await books.use_link(secret) is None
        newest = books.audit(limit=1)[0]
        assert (newest.action, newest.by, newest.detail) == ("link.add", "root", {"user": "ann"})


@pytest.mark.parametrize("how", ["expired", "disabled", "new password", "unknown", "odd"])
async def test_a_link_that_does_not_count_signs_nobody_in(tmp_path: Path, how: str) -> None:
    """And costs no commit."""
    clock = VirtualClock()
    async with opened(tmp_path, clock) as books:
        await books.add_user("ann", ["viewer"], by="root")
        secret = await books.open_link("ann", ahead(books))
        if how == "expired":
            await clock.advance(timedelta(days=1))
        elif how == "disabled":
            await books.change_user("ann", disabled=True, by="root")
        elif how == "new password":
            await books.change_user("ann", password_hash="x", by="root")
        else:
            secret = "0" * 52 if how == "unknown" else "\udc80"
        before = books._engine.store.commits
        assert await books.use_link(secret) is None
        assert books._engine.store.commits == before


async def test_a_disabled_person_cannot_sign_in(tmp_path: Path) -> None:
    """No session and no link is made."""
    async with opened(tmp_path) as books:
        await books.add_user("ann", ["viewer"], by="root")
        await books.change_user("ann", disabled=True, by="root")
        with pytest.raises(InvalidOptionError, match="disabled"):
            await books.open_session("ann", ahead(books))
        with pytest.raises(InvalidOptionError, match="disabled"):
            await books.open_link("ann", ahead(books))


async def test_a_sign_in_that_cannot_be_committed_did_not_happen(tmp_path: Path) -> None:
    """Nobody is signed in, and trying again works."""
    async with opened(tmp_path) as books:
        await books.add_user("ann", ["viewer"], by="root")
        secret = await books.open_link("ann", ahead(books))
        refuse_next_commit(books._engine)
        with pytest.raises(StoreError):
            await books.use_link(secret)
        assert await books.use_link(secret) is not None


# ------------------------------------------------------------------ replies, settings


async def test_an_answer_is_kept_for_a_day(tmp_path: Path) -> None:
    """Then the key may be used again."""
    clock = VirtualClock()
    async with opened(tmp_path, clock) as books:
        await books.keep_reply("k", "d", 201, "{}")
        assert books.find_reply("k") == Reply("d", None, 201, "{}")
        await clock.advance(timedelta(hours=23))
        assert books.find_reply("k") is not None
        await clock.advance(timedelta(hours=1))
        assert books.find_reply("k") is None
        await books.keep_reply("other", "d", 200, "x")
        assert books._engine.store.rows("SELECT key FROM replies") == [("other",)]


async def test_an_answer_does_not_replace_another_requests(tmp_path: Path) -> None:
    """The key belongs to the request that came first."""
    async with opened(tmp_path) as books:
        await books.keep_reply("k", "d1", 201, "first")
        await books.keep_reply("k", "d2", 500, "second")
        assert books.find_reply("k") == Reply("d1", None, 201, "first")


async def test_a_setting_is_kept(tmp_path: Path) -> None:
    """In the file; a first value can be left to whoever is first."""
    async with opened(tmp_path) as books:
        assert books.setting("key") is None
        assert await books.set_setting("key", "one", only_new=True) == "one"
        assert await books.set_setting("key", "two", only_new=True) == "one"
        assert await books.set_setting("key", "three") == "three"
    async with opened(tmp_path) as books:
        assert books.setting("key") == "three"


async def test_books_share_the_database_of_an_engine(tmp_path: Path) -> None:
    """Closing them leaves the engine open."""
    async with connect(tmp_path / "runs.db", durability="off") as client:
        books = await Books.open(engine_of(client))
        await books.add_user("ann", ["viewer"], by="root")
        await books.close()
        assert (await client.list()).items == ()
    async with connect(tmp_path / "runs.db", worker=False) as client:
        assert [user.name for user in (await Books.open(engine_of(client))).users()] == ["ann"]
