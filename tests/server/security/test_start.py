"""S24, S25: what a server refuses to start with."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from osprotocol import testing
from osprotocol._embedded.books import Books
from osprotocol._http.address import is_loopback
from osprotocol.errors import InvalidOptionError
from osprotocol.server.app import create_app
from osprotocol.server.settings import ServerSettings
from osprotocol.server.start_checks import check_starlette, check_start
from tests.server.security.world import password_hash, world


async def check(settings: ServerSettings, *, people: str = "", path: Path | None = None) -> list[str]:
    """Check a start, with nobody, or with a person who has a password, a token or neither."""
    async with testing.connect(autojump=False) as client:
        books = await Books.open(client._engine)  # type: ignore[arg-type]
        if people:
            hashed = password_hash() if "password" in people else None
            await books.add_user("ann", ["admin"], password_hash=hashed, by="x")
        if "token" in people:
            await books.add_token("ann", "x", ["admin"], by="x")
        if "old" in people:
            soon = client.clock.moment + timedelta(minutes=1)
            await books.add_token("ann", "x", ["admin"], expires_at=soon, by="x")
            await client.clock.advance(timedelta(hours=1))
        if "revoked" in people:
            token, _ = await books.add_token("ann", "x", ["admin"], by="x")
            await books.revoke_token(token.id, by="x")
        if "disabled" in people:
            await books.change_user("ann", disabled=True, by="x")
        return check_start(settings, books, [path] if path else [])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "runs.example.org", "127.0.0.1.example", "[::]", ""])
@pytest.mark.parametrize("people", ["", "nobody-can", "password disabled", "token disabled", "old", "revoked"])
async def test_an_open_address_needs_somebody_who_can_sign_in(host: str, people: str) -> None:
    """S24: listening where other machines reach it, with no person who has a password or a token that counts."""
    with pytest.raises(InvalidOptionError, match="osp user add"):
        await check(ServerSettings(host=host), people=people)


@pytest.mark.parametrize("people", ["password", "token"])
async def test_an_open_address_with_people_starts_with_a_warning(people: str) -> None:
    """S24: with people it starts, and says that plain http can be read on the way, unless TLS stands in front."""
    told = await check(ServerSettings(host="0.0.0.0"), people=people)
    assert len(told) == 1
    assert "plain http" in told[0]
    assert not await check(ServerSettings(host="0.0.0.0", public_url="https://runs.example.org"), people=people)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", "localhost", "LOCALHOST", "[::1]"]
)
async def test_loopback_needs_nobody(host: str) -> None:
    """S24: on this machine alone a server starts without people."""
    assert is_loopback(host)
    assert not await check(ServerSettings(host=host))


@pytest.mark.parametrize(
    "settings",
    [
        ServerSettings(allow_hosts=("*",)),
        ServerSettings(allow_hosts=("*.example.org",)),
        ServerSettings(allow_hosts=("",)),
        ServerSettings(allow_hosts=("https://runs.example.org",)),
        ServerSettings(public_url="runs.example.org"),
        ServerSettings(public_url="ftp://runs.example.org"),
        ServerSettings(public_url="https://[::1"),
        ServerSettings(public_url="https://runs.example.org:99999"),
        ServerSettings(public_url="https://runs.example.org:http"),
        ServerSettings(public_url="https://"),
        ServerSettings(public_url="https://user:password@runs.example.org"),
        ServerSettings(public_url="https://runs.example.org/console"),
        ServerSettings(public_url="https://runs.example.org?x"),
    ],
    ids=repr,
)
async def test_names_that_would_let_everybody_in_are_refused(settings: ServerSettings) -> None:
    """S24: no wildcard for the Host header, and a public address that is one."""
    with pytest.raises(InvalidOptionError):
        await check(settings)


@pytest.mark.parametrize(
    ("mode", "outcome"),
    [(0o600, "ok"), (0o640, "told"), (0o660, "told"), (0o644, "refused"), (0o602, "refused"), (0o666, "refused")],
)
async def test_a_database_that_everybody_reads_is_refused(mode: int, outcome: str, tmp_path: Path) -> None:
    """S24: it holds inputs, results and the key of forms; one that its group reads is told about."""
    tmp_path.chmod(0o755)
    path = tmp_path / "runs.db"
    path.touch()
    path.chmod(mode)
    if outcome == "refused":
        with pytest.raises(InvalidOptionError, match="chmod 600"):
            await check(ServerSettings(), path=path)
    else:
        assert bool(await check(ServerSettings(), path=path)) is (outcome == "told")


async def test_a_private_folder_protects_what_is_in_it(tmp_path: Path) -> None:
    """S24: nobody gets at a file through a folder that is closed to them."""
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    (folder / "runs.db").touch(mode=0o644)
    assert not await check(ServerSettings(), path=folder / "runs.db")
    assert not await check(ServerSettings(), path=tmp_path / "missing.db")


async def test_the_key_of_forms_is_made_by_each_server() -> None:
    """S24: there is no default secret: each database has its own, of 256 bits, and keeps it."""
    keys = set()
    for _ in range(2):
        async with world() as it:
            await (await it.browser("viewer")).aclose()
            first = it.books.setting("server_key")
            again = create_app(it.client, it.books, ServerSettings())
            assert await again.state.identify.__self__._server_key() == str(first).encode()
            keys.add(first)
    assert len(keys) == 2
    assert all(key is not None and len(key) == 52 for key in keys)


async def test_nothing_runs_in_debug_mode() -> None:
    """S24: the application shows no traces, and an unexpected failure is told without its text."""
    async with world() as it, it.http("viewer") as http:
        assert it.app.debug is False

        @it.app.get("/api/v1/boom")
        async def boom() -> None:
            raise RuntimeError("canary in a trace")

        answer = await http.get("/api/v1/boom")
        assert answer.status_code == 500
        assert "canary" not in answer.text
        assert "Traceback" not in answer.text


@pytest.mark.parametrize("installed", ["1.0.0", "0.52.1", "0.9", "1.0.0rc1", "1"])
def test_an_old_starlette_is_refused(installed: str) -> None:
    """S25: with a version below 1.0.1 the server does not start, and says why and what to install."""
    with pytest.raises(InvalidOptionError, match="forged Host header") as refused:
        check_starlette(installed)
    assert installed in str(refused.value)
    assert "starlette>=1.0.1" in str(refused.value)


@pytest.mark.parametrize("installed", ["1.0.1", "1.10.0", "2.0"])
def test_a_safe_starlette_is_taken(installed: str) -> None:
    """S25: the floor and what is above it."""
    check_starlette(installed)


async def test_the_installed_starlette_is_checked_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """S25: what counts is the version that is installed when the server starts."""
    from osprotocol.server import start_checks

    monkeypatch.setattr(start_checks, "version", lambda name: {"starlette": "1.0.0"}[name])
    with pytest.raises(InvalidOptionError, match="starlette"):
        await check(ServerSettings())
