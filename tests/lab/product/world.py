"""A database with people and their tokens, a place for it, and a port that stays the same over lives."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from osprotocol import connect
from osprotocol._embedded.books import Books
from tests.lab.product.workflows import VOTERS

TARGET = Path(__file__).with_name("workflows.py").resolve()
ROLES: dict[str, tuple[str, ...]] = {
    "root": ("viewer", "operator", "approver", "admin"),
    "sam": ("viewer", "operator"),
    "liv": ("viewer", "operator"),
    **dict.fromkeys(VOTERS, ("viewer", "approver")),
    "dan": ("viewer", "operator", "approver"),
    "eve": ("viewer", "operator", "approver"),
    "ray": ("viewer", "operator"),
    "rob": ("viewer", "operator"),
}
"""Sam and Liv start and steer; three vote; Dan and Eve answer; Ray and Rob read streams."""
# Below the ports that the system hands out by itself: one of those could be gone while no server lives.
_PORTS = range(20_000, 32_000)


class World:
    """What outlives the processes of one case.

    Attributes:
        tokens: the secret of each person's token.
        ports: one for each server.
    """

    def __init__(self, folder: Path, ports: int = 2) -> None:
        self.folder = folder
        self.database = folder / "runs.db"
        self.ledger = folder / "ledger"
        self.ledger.touch()
        self.ports = _free_ports(ports)
        self.tokens: dict[str, str] = {}

    async def people(self) -> None:
        """Make the database, its users and their tokens. No server may live yet."""
        async with connect(self.database, worker=False) as client:
            books = await Books.open(client._engine)  # type: ignore[arg-type]
            for name, roles in ROLES.items():
                await books.add_user(name, roles, by="root")
                _, self.tokens[name] = await books.add_token(name, "lab", roles, by="root")
            await books.close()

    def words(self, kind: str, place: int = 0) -> list[str]:
        """What `osp` gets to serve, or to work, on this database."""
        if kind == "worker":
            return ["worker", "--db", str(self.database), str(TARGET)]
        return ["--json", "serve", "--db", str(self.database), "--port", str(self.ports[place]), str(TARGET)]

    def url(self, place: int = 0) -> str:
        """Where a server is."""
        return f"http://127.0.0.1:{self.ports[place]}"

    def output(self) -> str:
        """Everything that the processes wrote."""
        path = self.folder / "output"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


@contextlib.contextmanager
def new_world() -> Iterator[World]:
    """A world in memory where there is such a file system; it is removed, also after a failure."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="osp-lab-", dir=memory if memory.is_dir() else None))
    try:
        world = World(folder)
        asyncio.run(world.people())
        yield world
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(number: int) -> list[int]:
    found: list[int] = []
    chance = random.SystemRandom()
    while len(found) < number:
        port = chance.choice(_PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            if port not in found:
                found.append(port)
    return found
