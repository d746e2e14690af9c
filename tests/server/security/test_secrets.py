"""S4, S18, S19, S21, S22: what leaks, what is forged, and what is readable for whom."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest
from pydantic import BaseModel, Field

from osprotocol import Context, TerminalError, connect, workflow
from osprotocol._embedded import accounts
from osprotocol.errors import InvalidOptionError
from osprotocol.server import csrf, passwords
from osprotocol.server.redaction import MASK, RedactingFilter, redact, redact_json, redact_text
from tests.server.security.world import OURS, PASSWORD, RawStream, World, world

OWN = "osp_0123456789ab_" + "7" * 52
SHAPES = {
    "ours": OWN,
    "model": "sk-proj-abcdefghijklmnop1234567890",
    "github": "ghp_" + "a1B2" * 9,
    "github-fine": "github_pat_" + "a1B2" * 10,
    "aws": "AKIAIOSFODNN7EXAMPLE",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
    "pem": "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7\n-----END RSA PRIVATE KEY-----",
    "bearer": "Bearer abcdefghijklmnopqrstuvwxyz",
    "address": "postgres://app:hunter2hunter2@db.example/x",
}


class Account(BaseModel):
    """A form with a secret in it."""

    user: str
    pin_code: str = Field(json_schema_extra={"format": "password"})
    once: str = Field(default="", json_schema_extra={"writeOnly": True})
    password: str = ""


@workflow(name="with-secrets")
async def with_secrets(ctx: Context, account: Account) -> dict[str, str]:
    ctx.log("signing in", api_key="canary-in-log-field")
    ctx.log("connecting with password=canary-in-log-text")
    approval = await ctx.wait_for_approval("Use it?", payload={"client_secret": "canary-in-payload", "n": 1})
    return {"user": account.user, "accessToken": "canary-in-result", "note": str(approval.approved)}


@workflow(name="failing-with-secrets")
async def failing_with_secrets(ctx: Context, text: str) -> str:
    ctx.log(f"about to fail with {text}")
    ctx.report_progress(1, 2, f"using {text}")
    raise TerminalError(f"cannot use {text}")


def reachable(run: str) -> list[str]:
    """Every address at which something of a run is shown."""
    api = [f"/api/v1/runs/{run}{part}" for part in ("", "/steps", "/logs", "/events")]
    api += ["/api/v1/runs", "/api/v1/events", "/api/v1/requests?open=all", f"/api/v1/requests/{run}-0"]
    pages = [f"/runs/{run}?tab={tab}" for tab in ("timeline", "logs", "values", "requests", "events", "audit")]
    return [
        *api,
        *pages,
        f"/runs/{run}/log.txt",
        "/",
        "/runs",
        "/inbox",
        "/inbox?view=all",
        "/audit",
        "/api/v1/audit",
        "/metrics",
    ]


async def shown(it: World, person: str, run: str) -> str:
    """Everything that a person gets to see of a run."""
    async with it.http(person) as http:
        texts = [(await http.get(path)).text for path in reachable(run)]
    stream = RawStream(it.app, f"/api/v1/runs/{run}/events", {"Authorization": f"Bearer {it.secrets[person]}"})
    await stream.until(b"run.claimed")
    await stream.close()
    return "\n".join([*texts, stream.received.decode()])


# ---------------------------------------------------------------------------- S4


async def test_the_database_holds_nothing_that_opens_a_door(tmp_path: Path) -> None:
    """S4: no token, cookie, sign-in link or password is in the database, its journal or a dump of it."""
    path = tmp_path / "private" / "runs.db"
    async with world(path=path) as it:
        await it.add_person("ann", "viewer", "operator", password=True)
        link = await it.books.open_link("ann", it.now + timedelta(minutes=5))
        browser = it.http()
        await browser.post("/sign-in", data={"name": "ann", "password": PASSWORD}, headers=OURS)
        cookie = next(iter(browser.cookies.values()))
        page = (await browser.get("/runs")).text
        token = page.split('name="csrf" value="')[1].split('"')[0]
        keyed = {"X-CSRF-Token": token, "Idempotency-Key": "k"} | OURS
        made = (await browser.post("/api/v1/tokens", json={"label": "x"}, headers=keyed)).json()["secret"]
        again = await browser.post("/api/v1/tokens", json={"label": "x"}, headers=keyed)
        assert again.headers["idempotency-replayed"] == "true"
        assert again.json()["secret"] is None
        async with it.http("admin") as admin:
            body = {"name": "new", "roles": ["viewer"], "password": "a password of its own"}
            assert (await admin.post("/api/v1/users", json=body, headers={"Idempotency-Key": "u"})).status_code == 201
        await browser.aclose()
        # What a thief would try: the secret and, for a token, the part of it that is no id.
        found = [*it.secrets.values(), link, cookie, made, PASSWORD, "a password of its own"]
        bare = [secret.rpartition("_")[2] for secret in found]
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        dump = repr([list(connection.execute(f'SELECT * FROM "{table}"')) for table in tables])
        connection.close()
        assert "tokens" in tables
        files = b"".join(file.read_bytes() for file in path.parent.rglob("*") if file.is_file())
        for secret in {*found, *bare}:
            assert secret not in dump
            assert secret.encode() not in files


def test_secrets_are_compared_in_constant_time() -> None:
    """S4: tokens, passwords and the tokens of forms are compared by hmac.compare_digest."""
    for function in (accounts.Accounts.find_token, passwords.verify_password, csrf.check_token):
        assert "hmac.compare_digest" in inspect.getsource(function)


@pytest.fixture(autouse=True)
def _cheap_passwords() -> None:
    """None here: the hash is what is tested."""


def test_a_password_is_hashed_with_salt_and_memory() -> None:
    """S4: equal passwords have different hashes; scrypt uses 32 MiB; a long or strange password works or is refused."""
    one, two = passwords.hash_password(PASSWORD), passwords.hash_password(PASSWORD)
    assert one != two
    scheme, n, r, _, _, _ = one.split("$")
    assert scheme == "scrypt"
    assert int(n) * int(r) * 128 == 32 * 1_048_576
    assert passwords.verify_password(PASSWORD, one)
    assert not passwords.verify_password(PASSWORD + " ", one)
    assert passwords.verify_password("\uff43orrect horse battery staple", one)  # a keyboard's other form of the letter


def test_who_does_not_exist_is_judged_like_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """S4: for a name that nobody has, or without a password, the same work is done, and the answer is no."""
    work: list[tuple[int, int, int]] = []
    derive = passwords._derive

    def counted(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
        work.append((n, r, p))
        return derive(password, salt, n, r, p)

    monkeypatch.setattr(passwords, "_derive", counted)
    assert not passwords.verify_password(PASSWORD, None)
    stored = passwords.hash_password(PASSWORD)
    assert not passwords.verify_password("something else here", stored)
    assert len(work) == 3
    assert len(set(work)) == 1


@pytest.mark.parametrize("password", ["short", "x" * 300, "aaaaaaaaaaaaaaaa", "           "])
def test_a_weak_password_is_refused(password: str) -> None:
    """S4: fewer than 12 characters, more than 256, or hardly any different ones."""
    with pytest.raises(InvalidOptionError):
        passwords.hash_password(password)


async def test_a_wrong_name_looks_like_a_wrong_password() -> None:
    """S4: status, page and record do not tell whether the name exists."""
    async with world() as it, it.http() as http:
        await it.add_person("ann", "viewer", password=True)
        answers = [
            await http.post("/sign-in", data={"name": name, "password": "wrong wrong wrong"}, headers=OURS)
            for name in ("ann", "bob")
        ]
        assert [answer.status_code for answer in answers] == [401, 401]
        assert answers[0].text.replace('value="ann"', 'value="bob"') == answers[1].text
        assert "bob" not in json.dumps([entry.to_wire() for entry in it.books.audit()])


# --------------------------------------------------------------------------- S18


@pytest.mark.parametrize("shape", SHAPES)
def test_known_token_shapes_are_blacked_out(shape: str) -> None:
    """S18: in the middle of a sentence, in a list, and as a name."""
    secret = SHAPES[shape]
    part = secret.removeprefix("Bearer ").removeprefix("postgres://app:").removesuffix("@db.example/x")
    assert part not in redact_text(f"it said ({secret}), then stopped")
    assert part not in json.dumps(redact({"list": [1, secret], secret: 1}, fully=False))
    assert part.encode() not in redact_json(json.dumps({"a": secret}).encode(), fully=False)


def test_plain_text_stays_as_it_is() -> None:
    """S18: what only resembles a token is not touched, and unchanged values are the same objects."""
    value = {
        "max_tokens": 5,
        "tokens": [1, 2],
        "text": "task-1 risk-averse, sk-learn, https://a.b/c:d@e",
        "count": 2**70,
        "monkey": "x",
        "secretary": "y",
        "key": "z",
        "token": 7,
        "passwordless": True,
    }
    assert redact(value, fully=True) is value
    data = b'{"n": 123456789012345678901234567890, "f": 1.50}'
    assert redact_json(data, fully=True) is data


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "PASSWORD",
        "userPassword",
        "user_password",
        "client-secret",
        "apiKey",
        "api_key",
        "APIKey",
        "x-api-key",
        "Authorization",
        "accessToken",
        "token",
        "privateKey",
        "passphrase",
        "cookie",
        "credentials",
    ],
)
def test_telling_names_are_blacked_out_for_viewers(name: str) -> None:
    """S18: whatever the spelling, at any depth, text and structures alike."""
    assert redact({"a": [{name: "x"}]}, fully=True) == {"a": [{name: MASK}]}
    assert redact({name: {"inner": "x"}}, fully=True) == {name: MASK}
    assert redact({name: "x"}, fully=False) == {name: "x"}


def test_declared_secrets_are_blacked_out_for_viewers() -> None:
    """S18: format password and writeOnly, through references, lists, unions and mappings of a schema."""
    schema = {
        "$defs": {"Inner": {"properties": {"pin": {"format": "password", "type": "string"}}}},
        "properties": {
            "one": {"$ref": "#/$defs/Inner"},
            "many": {"type": "array", "items": {"$ref": "#/$defs/Inner"}},
            "maybe": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/Inner"}]},
            "by": {"additionalProperties": {"writeOnly": True}},
            "pair": {"prefixItems": [{"type": "integer"}, {"writeOnly": True}]},
        },
    }
    inner = {"pin": "x", "other": "y"}
    value = {"one": inner, "many": [inner], "maybe": inner, "by": {"a": "x"}, "pair": [1, "x"]}
    clean = {"pin": MASK, "other": "y"}
    expected = {"one": clean, "many": [clean], "maybe": clean, "by": {"a": MASK}, "pair": [1, MASK]}
    assert redact(value, fully=True, schema=schema) == expected
    assert redact(value, fully=False, schema=schema) == value
    endless = {"$defs": {"A": {"$ref": "#/$defs/A"}}, "$ref": "#/$defs/A"}
    assert redact({"a": 1}, fully=True, schema=endless) == {"a": 1}


async def test_a_viewer_sees_no_declared_secret() -> None:
    """S18: inputs, results, payloads, logs and streams, in the API and on every page, while the run waits and after."""
    async with world() as it:
        account = {"user": "ann", "pin_code": "canary-pin", "once": "canary-once", "password": "canary-password"}
        run = await it.start("operator", "with-secrets", account)
        waiting = await shown(it, "viewer", run)
        async with it.http("approver") as http:
            await http.post(f"/api/v1/runs/{run}/approve", json={})
        await it.client.clock.settle()
        text = waiting + await shown(it, "viewer", run)
        assert "canary" not in text
        assert MASK in text


async def test_who_decides_sees_the_payload_exactly() -> None:
    """S18: an approver is shown what is approved, letter by letter, and whoever works with a result gets it."""
    async with world() as it:
        run = await it.start("operator", "with-secrets", {"user": "ann", "pin_code": "1"})
        asked = await it.question(run)
        async with it.http("approver") as http:
            seen = (await http.get(f"/api/v1/requests/{asked.id}")).json()
            assert seen["payload"] == {"client_secret": "canary-in-payload", "n": 1}
            await http.post(f"/api/v1/requests/{asked.id}/approve", json={"seen": asked.seen})
        await it.client.clock.settle()
        async with it.http("operator") as http:
            result = (await http.get(f"/api/v1/runs/{run}")).json()["result"]
        assert result["accessToken"] == "canary-in-result"


@pytest.mark.parametrize("person", ["viewer", "operator", "approver", "admin"])
async def test_nobody_sees_token_shapes_in_what_a_run_says(person: str) -> None:
    """S18: logs, progress, errors, events and pages of a run that fails are clean for everybody."""
    async with world() as it:
        text = f"{OWN} and {SHAPES['github']} and {SHAPES['aws']}"
        run = await it.start("operator", "failing-with-secrets", text)
        found = await shown(it, person, run)
        assert "cannot use" in found
        for secret in (OWN, SHAPES["github"], SHAPES["aws"]):
            assert secret not in found


@pytest.mark.parametrize("person", ["viewer", "operator"])
async def test_live_events_are_clean(person: str) -> None:
    """S18: what happens while somebody watches is as clean as what is read later, for one run and for all."""
    async with world() as it:
        headers = {"Authorization": f"Bearer {it.secrets[person]}"}
        everything = RawStream(it.app, "/api/v1/events", headers)
        await everything.until(b"retry:")
        run = await it.start(
            "operator", "with-secrets", {"user": "ann", "pin_code": OWN, "password": "canary-password"}
        )
        one = RawStream(it.app, f"/api/v1/runs/{run}/events", headers)
        await one.until(b"request.opened")
        async with it.http("approver") as http:
            await http.post(f"/api/v1/runs/{run}/approve", json={})
        await it.start("operator", "failing-with-secrets", SHAPES["github"])
        await one.until(b"event: end")
        await everything.until(b"run.failed")
        text = (one.received + everything.received).decode()
        assert OWN not in text
        assert SHAPES["github"] not in text
        assert ("canary" in text) is (person == "operator")
        for stream in (one, everything):
            await stream.close()


async def test_errors_quote_no_secrets(caplog: pytest.LogCaptureFixture) -> None:
    """S18: an answer that quotes what was sent, and the server's log, have no token in them."""
    caplog.set_level(logging.DEBUG)
    async with world() as it, it.http("admin") as http:
        for path, body in (
            (f"/api/v1/runs/{SHAPES['github']}/pause", {}),
            ("/api/v1/runs", {"workflow": OWN}),
            ("/api/v1/users", {"name": "x/" + OWN, "roles": ["viewer"]}),
            ("/api/v1/tokens", {"label": OWN + "\n"}),
            ("/api/v1/tokens", {"user": OWN, "roles": ["viewer"]}),
        ):
            answer = await http.post(path, json=body)
            assert answer.status_code >= 400
            assert OWN not in answer.text
            assert SHAPES["github"] not in answer.text
        for header in ("Authorization", "Cookie", "X-CSRF-Token", "Idempotency-Key"):
            await http.get("/api/v1/me?secret=canary-query", headers={header: "Bearer canary-header"})
        await it.http().get("/sign-in?code=canary-link")
        await it.http().post("/sign-in", data={"name": "canary-name", "password": "canary-password"}, headers=OURS)
    logged = "\n".join(record.getMessage() for record in caplog.records if record.name != "httpx2")
    assert "canary" not in logged
    for secret in it.secrets.values():
        assert secret not in logged


def test_log_records_are_cleaned() -> None:
    """S18: the filter for log handlers cleans messages, their arguments and the text of exceptions."""
    try:
        raise ValueError(f"bad token {OWN}")
    except ValueError as error:
        trace = (type(error), error, error.__traceback__)
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "sent %s", (SHAPES["aws"],), trace)
    assert RedactingFilter().filter(record)
    text = logging.Formatter().format(record)
    assert OWN not in text
    assert SHAPES["aws"] not in text


# --------------------------------------------------------------------------- S19


async def test_a_request_is_one_line_of_the_access_log(caplog: pytest.LogCaptureFixture) -> None:
    """S19: line breaks and escapes in a path, name or header make no second line and no escape sequence."""
    caplog.set_level(logging.INFO, "osprotocol.access")
    async with world() as it, it.http("viewer") as http:
        for path in (
            "/api/v1/runs/a%0d%0aINFO%20forged",
            "/api/v1/runs/%1b]0;owned%07",
            "/%e2%80%ae",
            "/api/v1/me?a=%0ab",
        ):
            await http.get(path)
        lines = [record.getMessage() for record in caplog.records if record.name == "osprotocol.access"]
        assert len(lines) == 4
        for line in lines:
            assert line.isprintable()
            assert "?" not in line


async def test_a_log_file_is_one_line_for_each_line() -> None:
    """S19: what a run logs cannot look like another line, and has no control sequences, in the download."""
    async with world() as it:
        run = await it.start("operator", "breaking", "x\n2026-01-01 INFO forged \x1b]0;owned\x07 \u202e")
        async with it.http("operator") as http:
            text = (await http.get(f"/runs/{run}/log.txt")).text
        lines = text.splitlines()
        assert len(lines) == len(await it.client._engine.logs(run, 0, 100))
        assert "\x1b" not in text


async def test_names_of_people_are_one_visible_line() -> None:
    """S19: a person's name has no line break, control or invisible character."""
    async with world() as it, it.http("admin") as http:
        for name in (
            "a\nb",
            "a\x1b[2J",
            "a\u202eb",
            "a\u200bb",
            " a",
            "a\ufe0f",
            "a\u3164",
            "a\x00",
            "\ud800",
            "a/b",
            "",
        ):
            body = json.dumps({"name": name, "roles": ["viewer"]})
            answer = await http.post("/api/v1/users", content=body, headers={"Content-Type": "application/json"})
            assert 400 <= answer.status_code < 500, ascii(name)


# --------------------------------------------------------------------------- S21


async def test_tampering_with_the_audit_log_is_found_over_http(tmp_path: Path) -> None:
    """S21: after an edit of the file the check names the record; a cut-off end shows by a head noted before."""
    path = tmp_path / "private" / "runs.db"
    async with world(path=path) as it, it.http("admin") as http:
        run = await it.start("operator", "guarded", "x")
        async with it.http("operator") as operator:
            await operator.post(f"/api/v1/runs/{run}/pause", json={})
        good = (await http.get("/api/v1/audit/verify")).json()
        assert good["ok"]
        head = f"{good['number']}:{good['hash']}"
        assert (await http.get("/api/v1/audit/verify", params={"head": head})).json()["ok"]

        def tamper(*statements: str) -> None:
            connection = apsw.Connection(str(path))
            connection.execute("DROP TRIGGER IF EXISTS audit_stays; DROP TRIGGER IF EXISTS audit_keeps")
            for statement in statements:
                connection.execute(statement)
            connection.close()

        tamper(f"DELETE FROM audit WHERE id = {good['number']}")
        assert (await http.get("/api/v1/audit/verify")).json()["ok"]  # a chain alone cannot show that
        cut = (await http.get("/api/v1/audit/verify", params={"head": head})).json()
        assert (cut["ok"], cut["broken"]) == (False, good["number"])
        tamper("UPDATE audit SET by = 'nobody' WHERE id = 2")
        assert (await http.get("/api/v1/audit/verify")).json()["broken"] == 2


async def test_what_the_server_does_for_people_is_recorded_as_theirs() -> None:
    """S21: two people at the same moment, in one commit: each record names its own person and how they were known."""
    async with world() as it:
        await it.add_person("second", "admin")
        browser = await it.browser("admin")
        async with it.http("second") as http:
            bodies = [{"name": f"new-{n}", "roles": ["viewer"]} for n in range(20)]
            await asyncio.gather(
                *((browser if n % 2 else http).post("/api/v1/users", json=body) for n, body in enumerate(bodies))
            )
        made = {entry.detail["user"]: entry for entry in it.books.audit(limit=200) if entry.action == "user.add"}
        for n in range(20):
            entry = made[f"new-{n}"]
            assert (entry.by, entry.via[:6]) == (("admin", "sessio") if n % 2 else ("second", "token "))
        await browser.aclose()


# --------------------------------------------------------------------------- S22


async def test_files_are_private_whatever_the_mask(tmp_path: Path) -> None:
    """S22: started with umask 000, the folder, the database and what lies beside it are for their owner only."""
    before = os.umask(0)
    try:
        async with connect(tmp_path / "data" / "runs.db") as client:
            from osprotocol._embedded.books import Books

            books = await Books.open(client._engine)  # type: ignore[arg-type]
            await books.add_user("ann", ["viewer"], by="x")
            await books.add_token("ann", "x", ["viewer"], by="x")
            found = {
                str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode)
                for path in (tmp_path / "data", *(tmp_path / "data").rglob("*"))
            }
    finally:
        os.umask(before)
    assert found
    assert not {path: oct(mode) for path, mode in found.items() if mode & 0o077}


def test_no_command_takes_a_secret_as_an_argument() -> None:
    """S22: every user of a machine sees the arguments of its processes, so passwords and tokens come by other ways."""
    import typer

    from osprotocol.cli.app import app

    def options(command: Any) -> set[str]:
        inner = getattr(command, "commands", {})
        own = {
            name for parameter in command.params for name in parameter.opts if not getattr(parameter, "is_flag", False)
        }
        return own.union(*(options(child) for child in inner.values())) if inner else own

    found = options(typer.main.get_command(app))
    assert "--password-stdin" not in found  # it takes no value
    assert not {
        name for name in found if name.startswith("-") and any(word in name for word in ("password", "token", "secret"))
    }
