"""`osp serve` as its own process: it starts, says where, and stops in order."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from osprotocol import testing
from osprotocol._embedded.books import Books
from osprotocol.server.serve import CannotListenError, address_of, serving
from osprotocol.server.settings import ServerSettings

_OSP = "from osprotocol.cli import main; main()"
WORKFLOWS = """
from osprotocol import Context, step, workflow

@step
async def add_one(number: int) -> int:
    return number + 1

@workflow
async def counted(ctx: Context, number: int = 0) -> int:
    return await ctx.step(add_one, number)
"""


@asynccontextmanager
async def served(folder: Path, *options: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, str]]]:
    """A server in a process of its own, and what it said first."""
    (folder / "counted.py").write_text(WORKFLOWS)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _OSP, "--json", "serve", "--port", "0", *options, "counted.py",
        cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        said = await process.stdout.readline()
        yield process, json.loads(said) if said else {}
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_serves_until_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    """It prints its address and a sign-in link that works once; a signal ends streams and the process."""
    async with (
        served(tmp_path) as (process, said),
        httpx2.AsyncClient(base_url=said["address"], verify=False) as browser,
    ):
        code = said["signIn"].partition("code=")[2]
        answers = [
            await browser.post("/sign-in", data={"code": code}, headers={"Origin": said["address"]}) for _ in range(2)
        ]
        assert [answer.status_code for answer in answers] == [303, 401]
        me = (await browser.get("/api/v1/me")).json()
        assert me["roles"] == ["viewer", "operator", "approver", "admin"]
        async with browser.stream("GET", "/api/v1/events", headers={"Accept": "text/event-stream"}) as live:
            assert live.status_code == 200
            process.send_signal(number)
            async for _ in live.aiter_bytes():
                pass
        _, errors = await process.communicate()
        assert process.returncode == 0, errors
        assert b"Traceback" not in errors
        assert b"code=" not in errors


async def test_port_in_use(tmp_path: Path) -> None:
    """A port that is taken is one clear line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with served(tmp_path, "--port", str(port)) as (process, _):
            _, errors = await process.communicate()
    assert process.returncode == 6
    (line,) = [json.loads(line) for line in errors.decode().splitlines() if line.startswith("{")]
    assert line["code"] == "cannot-listen"
    assert f"127.0.0.1:{port}: is in use" in line["message"]


async def test_elsewhere_needs_users(tmp_path: Path) -> None:
    """Where others reach it, it does not start without anybody who could sign in."""
    async with served(tmp_path, "--host", "0.0.0.0") as (process, _):
        _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"nobody can sign in yet" in errors


async def test_what_is_not_served_leaves_no_database(tmp_path: Path) -> None:
    """A start that is refused makes no file; the advice names the database that was meant."""
    async with served(tmp_path, "--host", "0.0.0.0", "--db", "new/of ours.db") as (process, _):
        _, errors = await process.communicate()
    (line,) = [json.loads(line) for line in errors.decode().splitlines() if line.startswith("{")]
    assert f"--password-stdin --db '{tmp_path / 'new' / 'of ours.db'}'" in line["message"]
    assert not (tmp_path / "new").exists()


async def test_who_is_no_user_is_told_how_to_sign_in(tmp_path: Path) -> None:
    """Where others are users and the one who starts the server is none, it names the command that makes a link."""
    async with testing.connect(path=tmp_path / "runs.db") as client:
        books = await Books.open(client._engine)  # type: ignore[arg-type]
        await books.add_user("somebody-else", ["admin"], by="somebody-else")
        await books.close()
    async with served(tmp_path, "--db", "runs.db") as (process, said):
        assert not said["signIn"]
        process.send_signal(signal.SIGTERM)
        _, errors = await process.communicate()
    assert f"osp user link NAME --address {said['address']}" in errors.decode()


async def test_a_link_leads_to_the_server_that_was_served_last(tmp_path: Path) -> None:
    """`osp user link` knows its address from the database."""
    async with served(tmp_path, "--db", "runs.db") as (process, said):
        command = [sys.executable, "-c", _OSP, "user", "add", "ann", "--db", "runs.db"]
        await (await asyncio.create_subprocess_exec(*command, cwd=tmp_path)).communicate()
        command = [sys.executable, "-c", _OSP, "user", "link", "ann", "--db", "runs.db"]
        asked = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, stdout=asyncio.subprocess.PIPE)
        out, _ = await asked.communicate()
        assert out.decode().startswith(f"{said['address']}/sign-in?code=")
        process.send_signal(signal.SIGTERM)
        await process.communicate()


async def test_the_told_address_is_answered() -> None:
    """Listening everywhere, the address that is told is one of the names under which it answers; others are not."""
    async with testing.connect() as client:
        books = await Books.open(client._engine)  # type: ignore[arg-type]
        await books.add_user("ann", ["admin"], by="ann", password_hash="x")
        async with serving(client, books, ServerSettings(host="0.0.0.0", port=0)) as taken:
            told = address_of(taken).removeprefix("http://")
            async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{taken.port}", verify=False) as http:
                answers = [await http.get("/healthz", headers={"Host": host}) for host in (told, "evil.example")]
        assert [answer.status_code for answer in answers] == [200, 403]
        await books.close()


async def test_port_is_free_again() -> None:
    """Leaving the block closes the port; the same one can be taken again at once."""
    async with testing.connect() as client:
        books = await Books.open(client._engine)  # type: ignore[arg-type]
        async with serving(client, books, ServerSettings(port=0)) as first:
            async with httpx2.AsyncClient(base_url=address_of(first), verify=False) as http:
                assert (await http.get("/healthz")).status_code == 200
            with pytest.raises(CannotListenError):
                async with serving(client, books, first):
                    raise AssertionError
        async with serving(client, books, first) as second:
            assert second.port == first.port
        await books.close()
