"""What every command knows: which database, and whether it talks JSON."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osprotocol.cli.exits import CommandError, ExitCode
from osprotocol.cli.output import is_terminal
from osprotocol.client import Client
from osprotocol.connect import check_path, connect


@dataclass(frozen=True, slots=True)
class Session:
    """The settings that all commands share.

    Attributes:
        url: from ``--db`` or ``--url``; None leaves it to `connect` (``OSP_URL``, else the nearest ``.osp/runs.db``).
        json: whether to print the wire form.
    """

    url: str | None = None
    json: bool = False

    @property
    def address(self) -> str | None:
        """The URL that was given on the command line or in ``OSP_URL``."""
        return self.url or os.environ.get("OSP_URL") or None

    @property
    def scheme(self) -> str:
        """What stands before the first colon of the address, in small letters."""
        return (self.address or "").partition(":")[0].lower()

    @property
    def is_remote(self) -> bool:
        """Whether the address is a server's: its workers execute the runs, and this process only asks."""
        return self.scheme in ("http", "https")

    @property
    def is_ledger(self) -> bool:
        """Whether the address is a ledger on Restate: workers are processes of their own."""
        return self.scheme == "restate"

    @property
    def interactive(self) -> bool:
        """Whether there is a person to ask: a terminal to read from and one to write to, and no ``--json``."""
        return not self.json and is_terminal(sys.stdin) and is_terminal(sys.stderr)

    def database(self) -> Path | None:
        """The database file, whether it exists or not; None when the address is not a file."""
        from osprotocol._embedded.database import find_database

        address = self.address
        if address is None:
            return find_database(Path.cwd())
        if self.is_remote or self.is_ledger or "\x00" in address:
            return None
        check_path(address)
        return Path(address.removeprefix("sqlite:")).absolute()

    @asynccontextmanager
    async def connect(self, *, worker: bool = False, create: bool = False, **settings: Any) -> AsyncIterator[Client]:
        """A client for one command.

        Args:
            worker: whether this process also works on runs.
            create: whether a database is made where there is none; only commands that start runs do.
            **settings: go to `osprotocol.connect`.
        """
        path = None if create else self.database()
        if path is not None and not path.exists():
            raise CommandError(
                f"there is no database at {path}; 'osp run' makes one, --db names another",
                "no-database",
                ExitCode.NOT_FOUND,
            )
        async with connect(self.url, worker=worker, **settings) as client:
            yield client
