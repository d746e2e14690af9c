"""People, tokens and the audit log from the terminal."""

import asyncio
import io
import sqlite3
from pathlib import Path

import pytest

from osprotocol._embedded.books import Books
from osprotocol.engine import operating_system_user
from osprotocol.server.passwords import verify_password
from tests.cli.conftest import Osp

DATABASE = Path(".osp", "runs.db")


def test_a_person_is_added_listed_changed_and_disabled(osp: Osp) -> None:
    """The first one makes the database; the record says who did it."""
    assert osp("user", "add", "ann", "--role", "approver", "--role", "viewer").out == "ann is viewer, approver\n"
    assert osp("user", "add", "bob").out == "bob is viewer\n"
    assert osp("user", "change", "ANN", "--role", "admin").out == "ann is admin\n"
    assert osp("user", "disable", "bob").out == "bob is disabled\n"
    listed = osp("user", "list", "--json").lines
    assert [(one["name"], one["roles"], one["disabled"]) for one in listed] == [
        ("ann", ["admin"], False),
        ("bob", ["viewer"], True),
    ]
    assert osp("user", "change", "bob", "--enable").code == 0
    assert not osp("user", "list", "--json").lines[1]["disabled"]
    records = osp("audit", "list", "--json").lines
    assert [one["action"] for one in records] == ["user.add", "user.add", *["user.change"] * 3]
    assert {(one["by"], one["via"]) for one in records} == {(operating_system_user(), "local")}


def test_a_link_signs_a_person_in_once(osp: Osp) -> None:
    """It leads to the address that the person's browser uses, and is good for that person."""
    osp("user", "add", "ann")
    link = osp("user", "link", "ann", "--address", "https://runs.example.org/", "--json").json["link"]
    address, _, code = link.partition("/sign-in?code=")
    assert address == "https://runs.example.org"

    async def used() -> list[str | None]:
        books = await Books.open_file(DATABASE)
        try:
            return [user.name if user else None for user in [await books.use_link(code), await books.use_link(code)]]
        finally:
            await books.close()

    assert asyncio.run(used()) == ["ann", None]
    assert osp("user", "link", "bob").code == 4


def test_a_password_comes_from_standard_input(osp: Osp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its hash is kept; it is no argument, which others would see in the list of processes."""
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse battery\nsecond line\n"))
    said = osp("user", "add", "ann", "--password-stdin", "--json")
    assert said.json["hasPassword"]

    async def kept() -> str | None:
        books = await Books.open_file(DATABASE)
        try:
            return books.password_hash_of("ann")
        finally:
            await books.close()

    stored = asyncio.run(kept())
    assert verify_password("correct horse battery", stored)
    assert not verify_password("correct horse battery\n", stored)


@pytest.mark.parametrize("typed", ["", "\n", "short\n", "x" * 2_000])
def test_a_password_that_is_none_is_refused(osp: Osp, monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    """Nobody is added."""
    osp("user", "add", "bob")
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert osp("user", "add", "ann", "--password-stdin").code == 2
    assert [one["name"] for one in osp("user", "list", "--json").lines] == ["bob"]


def test_a_token_is_printed_once(osp: Osp) -> None:
    """Alone on standard output, so that a script can take it; the list does not have it."""
    osp("user", "add", "ann", "--role", "viewer", "--role", "operator")
    made = osp("token", "create", "--user", "ann", "--label", "ci", "--expires", "30d", "--workflow", "echo")
    secret = made.out.strip()
    assert secret.startswith("osp_")
    assert made.err == "acts for ann as viewer, operator; it is not shown again\n"
    listed = osp("token", "list", "--json")
    assert secret.rpartition("_")[2] not in listed.out
    [token] = listed.lines
    assert (token["user"], token["label"], token["workflows"]) == ("ann", "ci", ["echo"])
    assert token["expiresAt"] is not None
    assert secret.split("_")[1] == token["id"]
    assert osp("token", "revoke", token["id"]).out == f"{token['id']} is revoked\n"
    assert osp("token", "list", "--json").lines[0]["revokedAt"] is not None
    assert "revoked" in osp("token", "list").out
    assert osp("token", "create", "--user", "ann", "--role", "viewer", "--json").json["token"].startswith("osp_")
    assert len(osp("token", "list", "--user", "ANN", "--json").lines) == 2


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["user", "change", "zed", "--role", "admin"], 4, "no user 'zed'"),
        (["user", "disable", "zed"], 4, "no user 'zed'"),
        (["user", "change", "ann"], 2, "nothing to change"),
        (["user", "add", "ann"], 5, "already"),
        (["user", "add", "bob", "--role", "king"], 2, "roles are viewer, operator, approver, admin"),
        (["user", "add", "b\u202eob"], 2, "name of a user"),
        (["token", "create", "--user", "zed"], 4, "no user 'zed'"),
        (["token", "create", "--user", "ann", "--role", "admin"], 2, "ann is no admin"),
        (["token", "create", "--user", "ann", "--expires", "soon"], 2, "no duration"),
        (["token", "revoke", "nothing"], 4, "no token with the id 'nothing'"),
        (["audit", "verify", "--head", "7"], 2, "not NUMBER:HASH"),
        (["user", "list", "--db", "http://localhost:1"], 2, "name the database with --db"),
        (["audit", "list", "--db", "none.db"], 4, "no database"),
    ],
)
def test_what_makes_no_sense_is_refused(osp: Osp, words: list[str], code: int, told: str) -> None:
    """One line, and the exit code that fits."""
    osp("user", "add", "ann")
    said = osp(*words)
    assert said.code == code
    assert told in said.err
    assert len(said.err.splitlines()) == 1


def test_the_log_tells_what_was_done_to_a_run(osp: Osp, waiting: str) -> None:
    """By run and by person, oldest first."""
    osp("approve", waiting, "--by", "ann")
    [record] = osp("audit", "list", "--run", waiting, "--json").lines
    assert (record["action"], record["by"], record["via"], record["runId"]) == (
        "request.vote",
        "ann",
        "local",
        waiting,
    )
    assert osp("audit", "list", "--by", "bob", "--json").lines == []
    assert "request.vote" in osp("audit", "list", "--limit", "1").out


def test_the_log_is_verified(osp: Osp) -> None:
    """Against a head that was noted, too."""
    osp("user", "add", "ann")
    osp("user", "add", "bob")
    head = osp("audit", "head").out.strip()
    assert head.startswith("2:")
    said = osp("audit", "verify", "--head", head)
    assert (said.code, said.out) == (0, f"2 records, all as they were written; head {head}\n")
    with sqlite3.connect(DATABASE) as connection:
        connection.execute("DROP TRIGGER audit_keeps")
        connection.execute("DELETE FROM audit WHERE id = 2")
    connection.close()
    assert osp("audit", "verify").code == 0
    said = osp("audit", "verify", "--head", head)
    assert said.code == 1
    assert said.out == "record 2 is not there, the log ends with 1: its end was cut off, or it is another log\n"
    assert osp("audit", "verify", "--head", head, "--json").json["broken"] == 2
    said = osp("audit", "verify", "--head", f"1:{'0' * 64}")
    assert (said.code, said.out) == (1, "record 1 is not as it was written\n")


def test_a_group_without_a_command_shows_its_commands(osp: Osp) -> None:
    """As `osp` itself does."""
    for group in ("user", "token", "audit"):
        said = osp(group)
        assert said.code == 2
        assert "list" in said.err
