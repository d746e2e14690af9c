"""A store for tests, and rows for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from osprotocol._clock import SystemClock
from osprotocol._embedded.store import Group, Operation, Store
from osprotocol._embedded.transaction import Transaction
from osprotocol._lifecycle import commands as c
from tests.lifecycle.situations import start_command


class Small(Store):
    """A store on a disk that has room for so many pages only."""

    pages = 1_000_000

    def _open(self) -> apsw.Connection:
        connection = super()._open()
        connection.execute(f"PRAGMA max_page_count = {self.pages}")
        return connection

    def resize(self, pages: int) -> None:
        self.pages = pages
        self.commit_all(lambda transaction: self._connected().execute(f"PRAGMA max_page_count = {pages}"))

    def commit_all(self, *runs: Callable[[Transaction], Any]) -> Group:
        return commit(self, *runs)


def open_store(path: Path) -> Store:
    return Store(path, SystemClock(), "off")


def commit(store: Store, *runs: Callable[[Transaction], Any]) -> Group:
    """Several operations in one transaction."""
    with store.lock:
        return store.commit([Operation(run) for run in runs])


def starting(run_id: str, input: str = '"x"') -> Callable[[Transaction], Any]:
    """An operation that starts a run."""

    def start(transaction: Transaction) -> Any:
        return transaction.apply(None, start_command(key=transaction.next_run_key(), id=run_id, input=input))

    return start


def recording(key: int, value: str) -> Callable[[Transaction], Any]:
    """An operation that adds a note to a run."""
    return lambda transaction: transaction.apply(key, c.Note("callback.error", value))
