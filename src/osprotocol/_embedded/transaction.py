"""One transaction: commands of any number of runs are decided against exact state and written together.

What an operation changes is staged first, so an operation that is refused leaves nothing behind while the others of
its group commit go through.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from operator import itemgetter
from typing import Any, NamedTuple

import apsw

from osprotocol._embedded.audit import LOCAL, AuditRecord, chained, record_of
from osprotocol._embedded.queries import MUTABLE_COLUMNS, QUERIES
from osprotocol._json import encode
from osprotocol._lifecycle.commands import Command, Record
from osprotocol._lifecycle.decide import decide
from osprotocol._lifecycle.state import RUN_COLUMNS, Decision, Event, RequestState, RunState
from osprotocol.engine import Acting
from osprotocol.errors import CorruptDatabaseError, DuplicateRequestError, OSProtocolError, RunNotFoundError
from osprotocol.protocol.run import RunStatus

REPLY_KEPT_US = 24 * 3_600_000_000
"""How long an Idempotency-Key is known."""
_STATUS = {status.value: status for status in RunStatus}
_STATUS_COLUMN = RUN_COLUMNS.index("status")
_mutable_values = itemgetter(*(RUN_COLUMNS.index(column) for column in MUTABLE_COLUMNS))


class LogRow(NamedTuple):
    """A line of a run's log on its way to the store."""

    run: int
    at: int
    level: str
    message: str
    attempt: int
    step: str | None
    fields: str | None


class Ids:
    """The last ids that the writer knows of; exact inside a transaction."""

    __slots__ = ("journal", "log", "request", "run")

    def __init__(self) -> None:
        self.journal = self.run = self.request = self.log = 0


def checksum(run: int, event: Event) -> int:
    """A number that a damaged row does not have."""
    what = f"{event.type}|{event.status}|{event.position}|{event.name}|{event.digest}|{event.value}"
    text = f"{run}|{event.number}|{event.at}|{what}"
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


def run_of_row(row: tuple[object, ...]) -> RunState:
    """A row of ``runs`` as state, without its requests."""
    state = RunState._make((*row, ()))
    status = _STATUS.get(state.status)
    if status is None:
        raise CorruptDatabaseError(f"run {state.id}", f"its status {state.status!r} is none")
    if type(state.event) is not int:
        raise CorruptDatabaseError(f"run {state.id}", "the numbers of its journal are damaged")
    return state._replace(status=status)


def event_of_row(row: tuple[object, ...]) -> Event:
    """The columns number to value of a row of ``journal`` as an event."""
    event = Event._make(row)
    return event if event.status is None else event._replace(status=_STATUS.get(event.status))


class Change(NamedTuple):
    """What a committed group did to one run."""

    state: RunState
    events: list[Event]


class Transaction:
    """The view of the store while a group of operations commits. Not kept after it."""

    def __init__(self, connection: apsw.Connection, ids: Ids, cache: dict[int, RunState], now: int) -> None:
        self.connection = connection
        self.now = now
        self.touched: list[int] = []
        self.claimed: list[tuple[RunState, list[Event]]] = []
        self._ids = ids
        self._cache = cache
        self._states: dict[int, RunState] = {}
        self._events: dict[int, list[Event]] = {}
        self._rows: list[tuple[int, Event]] = []
        self._requests: dict[int, RequestState] = {}
        self._logs: list[LogRow] = []
        self._new: set[int] = set()
        self._rewritten: set[int] = set()
        self._staged: dict[int, RunState] = {}
        self._staged_rows: list[tuple[int, Event]] = []
        self._staged_requests: list[RequestState] = []
        self._staged_new: list[int] = []
        self._audit: list[AuditRecord] = []
        self._staged_audit: list[AuditRecord] = []
        self._last_audit: tuple[int, str] | None = None
        self._replies: dict[str, tuple[str, str | None]] = {}
        self._staged_replies: dict[str, tuple[str, str | None]] = {}
        self._next_run = ids.run
        self._next_request = ids.request

    # ------------------------------------------------------------------ reading

    def state(self, key: int, request_id: str | None = None) -> RunState:
        """The run's exact state, with its open requests and the named one.

        Raises:
            RunNotFoundError: there is no such row.
        """
        state = self._staged.get(key) or self._states.get(key) or self._cache.get(key)
        if state is None:
            state = self._load("load_run", key)
            if state is None:
                raise RunNotFoundError(str(key))
        elif state.open_requests and not state.requests:
            state = self._with_requests(state, None)
        if request_id is not None and all(request.id != request_id for request in state.requests):
            named = [request for request in self._requests.values() if request.id == request_id]
            if named:
                state = state._replace(requests=(*state.requests, named[0]))
            else:
                state = self._with_requests(state, request_id)
        return state

    def find(self, run_id: str) -> RunState:
        """The run with that id.

        Raises:
            RunNotFoundError: there is none.
        """
        for states in (self._staged, self._states):
            for key in self._new.union(self._staged_new):
                state = states.get(key)
                if state is not None and state.id == run_id:
                    return state
        state = self._load("load_run_by_id", run_id)
        if state is None:
            raise RunNotFoundError(run_id)
        return self.state(state.key) if state.key in self._states or state.key in self._staged else state

    def _load(self, query: str, argument: int | str) -> RunState | None:
        row = self.connection.execute(QUERIES[query], (argument,)).fetchone()
        if row is None:
            return None
        state = run_of_row(row)
        return self._with_requests(state, None) if state.open_requests else state

    def _with_requests(self, state: RunState, named: str | None) -> RunState:
        rows = self.connection.execute(QUERIES["open_requests"], (state.key, named)).fetchall()
        known = {request.key: request for request in map(RequestState._make, rows)}
        for request in (*self._requests.values(), *self._staged_requests):
            if request.run == state.key:
                known[request.key] = request
        kept = tuple(known[key] for key in sorted(known) if known[key].is_open or known[key].id == named)
        return state._replace(requests=kept)

    def requests(self, key: int) -> list[RequestState]:
        """Every request of a run, those of this transaction included, oldest first."""
        known = {request.key: request for request in map(RequestState._make, self.rows("requests_of_run", key))}
        for request in (*self._requests.values(), *self._staged_requests):
            if request.run == key:
                known[request.key] = request
        return [known[number] for number in sorted(known)]

    def journal(self, key: int) -> list[Event]:
        """Every event of a run, those of this transaction included.

        Raises:
            CorruptDatabaseError: a row cannot be read or does not have its checksum, or a number is missing.
        """
        events = [event for run, event in (*self._rows, *self._staged_rows) if run == key]
        if not events or events[0].number != 1:
            events = self._stored_journal(key) + events
        if len(events) != self.state(key).event:
            raise CorruptDatabaseError(f"journal of run {key}", f"it ends with record {len(events)}, there were more")
        return events

    def _stored_journal(self, key: int) -> list[Event]:
        events: list[Event] = []
        try:
            for _, run, *columns, stored in self.connection.execute(QUERIES["events_of_run"], (key, 0, -1)):
                event = event_of_row(tuple(columns))
                if checksum(run, event) != stored or event.number != len(events) + 1:
                    raise CorruptDatabaseError(f"journal of run {key}", f"record {event.number} is damaged")
                events.append(event)
        except (apsw.CorruptError, UnicodeDecodeError) as error:
            # One run's, as far as anybody knows: its neighbours must not stand still for it.
            problem = f"what follows record {len(events)} cannot be read: {error}"
            raise CorruptDatabaseError(f"journal of run {key}", problem) from error
        return events

    def rows(self, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        """The rows of a named query."""
        return self.connection.execute(QUERIES[query], arguments).fetchall()

    def keys(self, query: str, *arguments: object) -> list[int]:
        """The first column of a named query's rows."""
        return [row[0] for row in self.rows(query, *arguments)]

    # ------------------------------------------------------------------ writing

    @property
    def highest_run(self) -> int:
        """The highest key that a run ever had: keys are not used again, so nothing late finds another run."""
        return self._next_run

    def next_run_key(self) -> int:
        """The key that a new run gets."""
        self._next_run += 1
        return self._next_run

    def next_request_key(self) -> int:
        """The key that a new request gets."""
        self._next_request += 1
        return self._next_request

    def apply(
        self, key: int | None, command: Command, request_id: str | None = None, who: Acting | None = None
    ) -> Decision:
        """Decide a command, stage what it changes and what follows for parent and children.

        Raises:
            DuplicateRequestError: `who` has a reply key under which something was changed before.
            RunError, UsageError: it is refused; nothing of this operation is kept.
        """
        # A request that is named is loaded although it is closed.
        named = request_id or getattr(command, "request_id", None)
        state = None if key is None else self.state(key, named)
        decision = decide(state, command, self.now)
        self._stage(decision, light=isinstance(command, Record) and state is not None and not state.deaths)
        pending = [(decision.state, followup) for followup in decision.followups]
        while pending:
            source, followup = pending.pop(0)
            for target in self._targets(source, followup.target):
                followed = decide(self.state(target), followup.command, self.now)
                self._stage(followed)
                pending.extend((followed.state, further) for further in followed.followups)
        if decision.events and decision.error is None:
            record = record_of(self.now, command, decision.state.id, decision.reply, who)
            if record is not None:
                self._note(record, who)
        return decision

    def note(
        self,
        action: str,
        who: Acting | None,
        run: str | None = None,
        detail: object = None,
        *,
        by: str = "",
        made: str | None = None,
    ) -> None:
        """Stage an audit record of a change that is no command; `by` counts when nobody signed in.

        `made` is the run that a reply key is answered with, when it is not `run`.
        """
        record = AuditRecord(
            self.now,
            who.person if who is not None else by,
            who.via if who is not None else LOCAL,
            action,
            run,
            detail=encode(detail or {}),
        )
        self._note(record, who, made)

    def _note(self, record: AuditRecord, who: Acting | None, made: str | None = None) -> None:
        self._staged_audit.append(record)
        if who is not None and who.reply_key is not None and who.reply_key not in self._staged_replies:
            self.check_reply(who)
            self._staged_replies[who.reply_key] = (who.reply_digest, made or record.run)

    def check_reply(self, who: Acting | None) -> None:
        """Refuse to change anything a second time under one reply key.

        Raises:
            DuplicateRequestError: something was changed under it before.
        """
        key = None if who is None else who.reply_key
        if key is not None and (key in self._replies or self.rows("find_reply", key, self.now - REPLY_KEPT_US)):
            raise DuplicateRequestError(key)

    def _targets(self, source: RunState, target: str) -> list[int]:
        if target == "parent":
            return [] if source.parent is None else [source.parent]
        stored = self.keys("children", source.key)
        fresh = [
            state.key
            for states in (self._states, self._staged)
            for state in states.values()
            if state.parent == source.key and not self.state(state.key).is_final
        ]
        return [key for key in dict.fromkeys((*stored, *fresh)) if not self.state(key).is_final]

    def _stage(self, decision: Decision, light: bool = False) -> None:
        state = decision.state
        if not light:
            self._rewritten.add(state.key)
        if state.event == len(decision.events) and state.key not in self._new:
            self._staged_new.append(state.key)
        self._staged[state.key] = state
        self._staged_rows.extend((state.key, event) for event in decision.events)
        self._staged_requests.extend(decision.requests)

    def append_raw(self, run: int, event: Event, stored: int) -> None:
        """Write a journal row that belongs to no run, at once."""
        self.connection.execute(QUERIES["append"], (event.number, run, *event, stored))
        self._ids.journal = event.number

    def next_tombstone(self) -> int:
        """The id of a row that `append_raw` may write: only alone in its transaction."""
        return self._ids.journal + 1

    def try_apply(self, key: int, command: Command) -> bool:
        """As `apply`, for one of many: False if this run's row is damaged, which keeps nobody else from going on."""
        try:
            self.apply(key, command)
        except (OSProtocolError, ValueError, KeyError, TypeError):
            self.drop()
            return False
        self.keep()
        return True

    def log(self, row: LogRow) -> None:
        """Add a line to a run's log."""
        self._logs.append(row)

    def keep(self) -> None:
        """The operation succeeded: what it staged belongs to the transaction."""
        for key, state in self._staged.items():
            self._states[key] = state
            self.touched.append(key)
        for key, event in self._staged_rows:
            self._events.setdefault(key, []).append(event)
        self._rows.extend(self._staged_rows)
        for request in self._staged_requests:
            self._requests[request.key] = request
        self._new.update(self._staged_new)
        self._audit.extend(self._staged_audit)
        self._replies.update(self._staged_replies)
        self.drop()

    def drop(self) -> None:
        """The operation was refused, or is kept already: nothing is staged any more."""
        self._staged, self._staged_rows, self._staged_requests, self._staged_new = {}, [], [], []
        if self._staged_audit:
            self._staged_audit, self._staged_replies = [], {}

    def has_rows(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._rows or self._logs or self._audit)

    def write(self) -> None:
        """Send everything to SQLite, inside the open transaction."""
        execute_many = self.connection.executemany
        first = self._ids.journal
        execute_many(
            QUERIES["append"],
            [(first + n, run, *event, checksum(run, event)) for n, (run, event) in enumerate(self._rows, 1)],
        )
        new = [state[:-1] for key, state in self._states.items() if key in self._new]
        if new:
            execute_many(QUERIES["insert_run"], new)
        changed = [
            (*_mutable_values(state), key)
            for key, state in self._states.items()
            if key in self._rewritten and key not in self._new
        ]
        if changed:
            execute_many(QUERIES["update_run"], changed)
        if self._requests:
            execute_many(QUERIES["put_request"], list(self._requests.values()))
        if self._logs:
            log = self._ids.log
            execute_many(QUERIES["add_log"], [(log + n, *row) for n, row in enumerate(self._logs, 1)])
        if self._audit:
            self._write_audit()
        if self._replies:
            execute_many(
                QUERIES["add_reply"],
                [(key, digest, run, self.now) for key, (digest, run) in self._replies.items()],
            )

    def _write_audit(self) -> None:
        newest = self.rows("newest_audit", 1)
        number, before = newest[0] if newest else (0, "")
        for record in self._audit:
            number += 1
            before = chained(before, number, record)
            self.connection.execute(QUERIES["add_audit"], (number, *record, before))
        self._last_audit = (number, before)

    def is_in(self, connection: apsw.Connection) -> bool:
        """Whether this was committed: a commit of unknown outcome is read back by the last row that it wrote."""
        if self._rows:
            run, event = self._rows[-1]
            written = (self._ids.journal + len(self._rows), run, event.number, checksum(run, event))
            return connection.execute(QUERIES["journal_row"], written[:1]).fetchone() == written
        if self._last_audit is not None:
            return connection.execute(QUERIES["audit_hash"], self._last_audit[:1]).fetchone() == self._last_audit[1:]
        return False

    def committed(self) -> dict[int, Change]:
        """The ids move on; what happened to each run, for those who listen."""
        self._ids.journal += len(self._rows)
        self._ids.run = max(self._ids.run, *self._new) if self._new else self._ids.run
        self._ids.request = max(self._ids.request, *self._requests) if self._requests else self._ids.request
        self._ids.log += len(self._logs)
        return {key: Change(self._states[key], events) for key, events in self._events.items()}

    def claims(self) -> list[tuple[RunState, list[Event]]]:
        """The claimed runs with their events, as the whole transaction left them: more may follow a claim in it."""
        return [
            (self._states[state.key], [*events, *(e for e in self._events[state.key] if e.number > state.event)])
            for state, events in self.claimed
        ]

    def states(self) -> Iterator[RunState]:
        """Every state that this transaction changed."""
        return iter(self._states.values())
