"""The store: groups of operations become one commit, and what a failed commit did is read back.

One writing connection, used by one thread at a time; one reading connection for questions from outside.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import apsw

from osprotocol._clock import Clock
from osprotocol._embedded.database import (
    BUSY_MS,
    IMPATIENT_MS,
    check_filesystem,
    check_platform,
    closed_on_error,
    failure_of,
    identity_of,
    migrate,
    open_connection,
    open_reader,
    prepare_folder,
    set_durability,
    translated,
)
from osprotocol._embedded.queries import QUERIES
from osprotocol._embedded.transaction import Change, Ids, Transaction, checksum, event_of_row, run_of_row
from osprotocol._embedded.upstream import MARK, PATIENT_MS, ChangeTooLargeError, Upstream, recorder_of
from osprotocol._lifecycle.state import Event, RequestState, RunState
from osprotocol.errors import (
    CorruptDatabaseError,
    EngineClosedError,
    EngineError,
    ForkedProcessError,
    OSProtocolError,
    StoreError,
)

_FOREIGN_BATCH = 10_000

_log = logging.getLogger("osprotocol")


class Operation:
    """Something to do in a transaction, and where its outcome goes.

    Attributes:
        run: does it, given the transaction; raises to refuse.
        human: a person's decision or a start: synced to the disk even at durability ``normal``.
    """

    __slots__ = ("done", "error", "human", "result", "run")

    def __init__(
        self,
        run: Callable[[Transaction], Any],
        done: Callable[[Operation], None] | None = None,
        *,
        human: bool = False,
    ) -> None:
        self.run = run
        self.done = done
        self.human = human
        self.result: Any = None
        self.error: BaseException | None = None


class Group:
    """A finished group: every operation with its outcome, and what changed."""

    __slots__ = ("changes", "claimed", "doubtful", "foreign", "is_divisible", "operations")

    def __init__(self, operations: list[Operation]) -> None:
        self.operations = operations
        self.changes: dict[int, Change] = {}
        self.claimed: list[tuple[RunState, list[Event]]] = []
        self.doubtful: list[RunState] = []
        self.foreign: dict[int, Change] = {}
        self.is_divisible = False

    def add(self, later: Group) -> None:
        """Add what was committed right after it, for those who are told both at once."""
        for changes in (later.foreign, later.changes):
            for number, (state, events) in enumerate(self.claimed):
                change = changes.get(state.key)
                if change is not None:
                    self.claimed[number] = change.state, [*events, *change.events]
            _add(self.changes, changes)
        # Whoever could be claimed later had not been claimed by what failed.
        claimed = {state.key for state, _ in later.claimed}
        self.doubtful = [state for state in self.doubtful if state.key not in claimed] + later.doubtful
        self.claimed += later.claimed


class Store:
    """The database of one process.

    Args:
        path: the file; made when it is not there.
        durability: ``full`` (default), ``normal`` or, for tests, ``off``.
        vfs: name of an apsw VFS to put under it, for tests.
        upstream: where commits are accepted first, if the file is a copy.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        durability: str = "full",
        vfs: str | None = None,
        upstream: Upstream | None = None,
    ) -> None:
        check_platform()
        prepare_folder(path)
        check_filesystem(path)
        self.path = path
        self.clock = clock
        self.upstream = upstream
        self.lock = threading.Lock()
        self.ids = Ids()
        self.owned: dict[int, RunState] = {}
        self._durability = durability
        self._vfs = vfs
        self._pid = os.getpid()
        self._writer: apsw.Connection | None = None
        self._data_version = -1
        self._synchronous = durability
        self._closed = False
        self._opened = False
        self._file = identity_of(path)
        self._is_lost = False
        self.others_wrote = True
        self.commits = 0
        self.deletions = 0
        self.owner: int | None = None
        self.after: Callable[[Transaction], None] = lambda transaction: None
        connection = self._open()
        with translated(path), closed_on_error(connection):
            self.reader = open_reader(path, vfs=vfs)
            with closed_on_error(self.reader):
                self._writer = connection
                self._notice(connection)

    # ------------------------------------------------------------------ opening

    def _open(self) -> apsw.Connection:
        connection = open_connection(self.path, self._durability, vfs=self._vfs)
        with translated(self.path), closed_on_error(connection):
            migrate(connection, self.path)
            if self.upstream is not None:
                connection.set_busy_timeout(PATIENT_MS)
            elif connection.table_exists("main", MARK):
                source = connection.execute("SELECT source FROM replica").get
                raise EngineError(str(self.path), f"is this machine's copy of {source}; connect to that")
        self._synchronous = self._durability
        self._data_version = -1
        return connection

    def check_usable(self) -> None:
        """Refuse a closed store, and one that a fork inherited.

        Raises:
            EngineClosedError, ForkedProcessError: it is one of those.
        """
        if os.getpid() != self._pid:
            raise ForkedProcessError()
        if self._closed:
            raise EngineClosedError()

    def check_file(self) -> None:
        """Refuse a file that was removed or replaced: what is written into it is lost with the process.

        Raises:
            StoreError: it was; the log tells it once.
        """
        is_lost = identity_of(self.path) != self._file
        if is_lost:
            error = StoreError(str(self.path), "is not the file any more that this process has open; start it again")
            if not self._is_lost:
                self._is_lost = True
                _log.error("%s", error)
            raise error
        self._is_lost = False

    @property
    def is_lost(self) -> bool:
        """Whether the file was removed or replaced, as far as anybody here has noticed."""
        return self._is_lost

    def close(self) -> None:
        """Close both connections; what was committed stays."""
        with self.lock:
            self._closed = True
            for connection in (self._writer, self.reader):
                if connection is not None and os.getpid() == self._pid:
                    with contextlib.suppress(apsw.Error):  # a log that could not be copied into the file is read again
                        connection.close()
            self._writer = None

    # ------------------------------------------------------------------ writing

    def commit(self, operations: list[Operation]) -> Group:
        """Run every operation in one transaction and commit; the caller holds `lock`.

        An operation that is refused has its `error`, the others go through. When the database fails, every operation
        has the error, unless the commit turns out to have happened. What is too large for one commit becomes several,
        and so does what meets damage in the file, which then keeps nobody else from going on.
        """
        group = Group(operations)
        while not self._try(group):
            pass
        if group.is_divisible and len(operations) > 1:
            middle = len(operations) // 2
            for part in (operations[:middle], operations[middle:]):
                group.add(self.commit(part))
        return group

    def _try(self, group: Group) -> bool:
        """One transaction with the whole group; False if it has to be done again on top of what others did."""
        operations = group.operations
        transaction: Transaction | None = None
        last_seen = self.ids.journal
        try:
            connection = self._connected()
            self._begin(connection, operations)
            _add(group.foreign, self._notice(connection))
            last_seen = self.ids.journal
            recorder = None if self.upstream is None else recorder_of(connection)
            transaction = Transaction(connection, self.ids, self.owned, self.clock.now())
            for operation in operations:
                _run(operation, transaction)
            self.after(transaction)
            if transaction.has_rows():
                transaction.write()
            if recorder is not None and not self._is_accepted(connection, recorder, transaction, operations):
                self._start_over(connection, last_seen)
                return False
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - whatever fails fails this group, never the thread that commits
            failure = failure_of(error, self.path)
            group.is_divisible = isinstance(error, ChangeTooLargeError) or isinstance(failure, CorruptDatabaseError)
            if not self._read_back(transaction):
                self.owned.clear()
                self.ids.journal = min(self.ids.journal, last_seen)
                # Where reading back failed too, the claims may stand: whoever claimed gives the runs back.
                group.doubtful = [] if transaction is None else [state for state, _ in transaction.claimed]
                for operation in operations:
                    operation.error = failure
                return True
        assert transaction is not None
        self.commits += 1
        group.changes = transaction.committed()
        group.claimed = transaction.claims()
        self._remember(transaction)
        return True

    def _is_accepted(
        self,
        connection: apsw.Connection,
        recorder: apsw.Session,
        transaction: Transaction,
        operations: list[Operation],
    ) -> bool:
        assert self.upstream is not None
        # Not a changeset, which has all that deleted and changed rows held before.
        change = bytes(recorder.patchset())
        recorder.close()
        if change:
            is_news = any(state.owner is None or state.owner != self.owner for state in transaction.states())
            if self.upstream.publish(connection, change, is_news=is_news):
                return True
        elif not any(operation.error is not None or operation.human for operation in operations):
            return True
        # Something else was accepted before; or a refusal has to be true of what is accepted now.
        connection.execute("ROLLBACK")
        self.upstream.catch_up()
        connection.execute("BEGIN")
        # Another process with this copy may have been the one that caught up.
        return not change and bool(connection.execute("PRAGMA data_version").get == self._data_version)

    def _start_over(self, connection: apsw.Connection, last_seen: int) -> None:
        connection.execute("ROLLBACK")
        self.owned.clear()
        self.ids.journal = last_seen
        self._data_version = -1  # also loads the other ids again

    def begin_at_once(self, operations: list[Operation]) -> bool:
        """Begin the transaction of the commit that follows; False if another process writes, so that it would wait.

        The caller holds `lock`.
        """
        try:
            connection = self._connected()
            connection.set_busy_timeout(IMPATIENT_MS)
            try:
                self._begin(connection, operations)
            finally:
                connection.set_busy_timeout(BUSY_MS)
        except apsw.BusyError:
            return False
        except (apsw.Error, OSProtocolError):
            pass  # the commit meets it too, and says so
        return True

    def _begin(self, connection: apsw.Connection, operations: list[Operation]) -> None:
        if not connection.in_transaction:
            self._set_synchronous(connection, any(operation.human for operation in operations))
            connection.execute("BEGIN IMMEDIATE")

    def _connected(self) -> apsw.Connection:
        self.check_usable()
        self.check_file()
        if self._writer is None:
            self._writer = self._open()
        return self._writer

    def _set_synchronous(self, connection: apsw.Connection, human: bool) -> None:
        wanted = "full" if human and self._durability == "normal" and self.upstream is None else self._durability
        if wanted != self._synchronous:
            set_durability(connection, wanted)
            self._synchronous = wanted

    def _read_back(self, transaction: Transaction | None) -> bool:
        """Whether the transaction is in the database although it raised. The connection is opened anew."""
        if self._writer is not None:
            with contextlib.suppress(apsw.Error):  # the connection is given up in any case
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
            with contextlib.suppress(apsw.Error):
                self._writer.close()
            self._writer = None
        if transaction is None:
            return False
        try:
            if self.upstream is not None:
                self.upstream.catch_up()
                if self.upstream.has_taken():
                    return True
            self._writer = self._open()
            return transaction.is_in(self._writer)
        except (apsw.Error, OSProtocolError):
            return False

    def _remember(self, transaction: Transaction) -> None:
        for state in transaction.states():
            if state.owner is not None and state.owner == self.owner:
                self.owned[state.key] = state
            else:
                self.owned.pop(state.key, None)

    def _notice(self, connection: apsw.Connection) -> dict[int, Change]:
        """What other processes committed since we looked last; states that they changed are loaded again."""
        version = connection.execute("PRAGMA data_version").get
        if version == self._data_version:
            return {}
        self._data_version = version
        self.others_wrote = True
        ids, since, first = self.ids, self.ids.journal, not self._opened
        ids.journal, ids.run, ids.request, ids.log = connection.execute(QUERIES["last_ids"]).get
        self._opened = True
        return {} if first else self._changed_since(connection, since)

    def _changed_since(self, connection: apsw.Connection, since: int) -> dict[int, Change]:
        events: dict[int, list[Event]] = {}
        while since < self.ids.journal:
            rows: list[tuple[Any, ...]] = connection.execute(
                QUERIES["events_since"], (since, _FOREIGN_BATCH)
            ).fetchall()
            if not rows:
                break
            for _, run, *columns in rows:
                events.setdefault(run, []).append(event_of_row(tuple(columns)))
            since = rows[-1][0]
        self.deletions += 0 in events
        changes = {}
        for key, happened in events.items():
            state = load_run(connection, key)
            if state is not None:
                changes[key] = Change(state, happened)
            if key in self.owned:
                if state is None or state.owner != self.owner:
                    del self.owned[key]
                else:
                    self.owned[key] = state
        return changes

    def poll(self) -> dict[int, Change] | None:
        """What other processes did, if the writer is free to look; None when it is not."""
        if not self.lock.acquire(blocking=False):
            return None
        try:
            with translated(self.path):
                return self._notice(self._connected())
        finally:
            self.lock.release()

    def is_behind(self) -> bool:
        """Whether somebody committed since we looked last."""
        if not self.lock.acquire(blocking=False):
            return True
        try:
            return bool(self._connected().execute("PRAGMA data_version").get != self._data_version)
        except (apsw.Error, StoreError):
            return True
        finally:
            self.lock.release()

    # ------------------------------------------------------------------ reading

    def rows(self, query: str, arguments: Iterable[object] = ()) -> list[tuple[Any, ...]]:
        """The rows of a named query, or of SQL made by `listing`, as committed now."""
        self.check_usable()
        with translated(self.path):
            try:
                return self.reader.execute(QUERIES.get(query, query), tuple(arguments)).fetchall()
            except UnicodeEncodeError:
                return []  # a lone surrogate is in no row

    def with_requests(self, row: tuple[Any, ...]) -> RunState:
        """A row of ``runs`` as state with its open requests."""
        with translated(self.path):
            return _with_requests(self.reader, run_of_row(row))

    def find(self, run_id: str) -> RunState | None:
        """The run with that id, as committed now."""
        self.check_usable()
        with translated(self.path):
            row = self.reader.execute(QUERIES["load_run_by_id"], (run_id,)).fetchone() if run_id.isascii() else None
            return None if row is None else _with_requests(self.reader, run_of_row(row))

    def result_of(self, state: RunState) -> str | None:
        """JSON of what a completed run returned.

        Raises:
            CorruptDatabaseError: it is damaged.
        """
        rows = self.rows("final_event", (state.key,))
        event = event_of_row(rows[0][:-1]) if rows else None
        if event is None or checksum(state.key, event) != rows[0][-1]:
            raise CorruptDatabaseError(f"journal of run {state.key}", "the record of its result is damaged")
        return event.value

    def load(self, key: int) -> RunState | None:
        """The run in that row, as committed now."""
        self.check_usable()
        with translated(self.path):
            return load_run(self.reader, key)


def _add(known: dict[int, Change], more: dict[int, Change]) -> None:
    """Add later changes to earlier ones of the same runs."""
    for key, change in more.items():
        before = known.get(key)
        known[key] = change if before is None else Change(change.state, [*before.events, *change.events])


def load_run(connection: apsw.Connection, key: int) -> RunState | None:
    """The run in that row with its open requests."""
    row = connection.execute(QUERIES["load_run"], (key,)).fetchone()
    return None if row is None else _with_requests(connection, run_of_row(row))


def _with_requests(connection: apsw.Connection, state: RunState) -> RunState:
    if not state.open_requests:
        return state
    rows = connection.execute(QUERIES["open_requests"], (state.key, None))
    return state._replace(requests=tuple(map(RequestState._make, rows)))


def _run(operation: Operation, transaction: Transaction) -> None:
    operation.error = None  # it may have failed before
    try:
        operation.result = operation.run(transaction)
        transaction.keep()
    except (apsw.Error, StoreError):
        raise
    except Exception as error:  # noqa: BLE001 - one operation's mistake must not fail its whole group
        transaction.drop()
        operation.error = error
