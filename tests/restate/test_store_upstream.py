"""The seam under the store: what is true is elsewhere, here in a list, and the file is a copy of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from osprotocol import Context, connect
from osprotocol._clock import SystemClock
from osprotocol._embedded.database import migrate, open_connection, prepare_folder
from osprotocol._embedded.engine import EmbeddedEngine
from osprotocol._embedded.queries import QUERIES
from osprotocol._embedded.store import Operation, Store
from osprotocol._embedded.transaction import Transaction
from osprotocol._embedded.upkeep import save_copy
from osprotocol._embedded.upstream import MARK, ChangeTooLargeError
from osprotocol.client import Client
from osprotocol.errors import EngineError, RunNotFoundError, StoreError
from osprotocol.workflow import Workflow, known_workflows
from tests.store.stores import commit, recording, starting

Entries = list[bytes]


def nothing() -> None:
    """What happens in between when nothing does."""


class Member:
    """`Upstream` of one file, on a list of entries that all members share.

    Attributes:
        before_publish: called once, before the next change is offered.
        before_catch_up: the same, before it is looked for what others did.
        after_accepting, before_accepting: raised once, by the next offer.
        is_cut_off: nothing can be asked.
        largest: so many bytes are accepted at once.
        looks: how often it was looked for what others did.
    """

    def __init__(self, path: Path, entries: Entries) -> None:
        self.path = path
        self.entries = entries
        self.before_publish: Callable[[], Any] = nothing
        self.before_catch_up: Callable[[], Any] = nothing
        self.after_accepting: Exception | None = None
        self.before_accepting: Exception | None = None
        self.is_cut_off = False
        self.largest = 1_000_000
        self.is_taken = False
        self.published = b""
        self.looks = 0
        prepare_folder(path)
        self._connection = open_connection(path, "off")
        self._connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
        migrate(self._connection, path)
        self._connection.execute(f"CREATE TABLE IF NOT EXISTS {MARK} (source TEXT PRIMARY KEY, version INTEGER)")
        self._connection.execute(f"INSERT INTO {MARK} SELECT 'a list', 0 WHERE NOT EXISTS (SELECT 1 FROM {MARK})")

    def publish(self, connection: apsw.Connection, change: bytes, *, is_news: bool) -> bool:
        before, self.before_publish = self.before_publish, nothing
        before()
        failure, self.before_accepting = self.before_accepting, None
        if failure is not None:
            raise failure
        if len(change) > self.largest:
            raise ChangeTooLargeError("a list", "too large")
        if self.reached(connection) != len(self.entries):
            return False
        self.entries.append(change)
        self.published = change
        failure, self.after_accepting = self.after_accepting, None
        if failure is not None:
            raise failure
        connection.execute(f"UPDATE {MARK} SET version = ?", (len(self.entries),))
        return True

    def catch_up(self) -> bool:
        self.looks += 1
        before, self.before_catch_up = self.before_catch_up, nothing
        before()
        if self.is_cut_off:
            raise StoreError("a list", "cannot be reached")
        with self._connection:
            fresh = self.entries[self.reached(self._connection) :]
            self.is_taken = any(change is self.published for change in fresh)
            for change in fresh:
                apsw.Changeset.apply(change, self._connection)
            self._connection.execute(f"UPDATE {MARK} SET version = ?", (len(self.entries),))
        return bool(fresh)

    def has_taken(self) -> bool:
        return self.is_taken

    def reached(self, connection: apsw.Connection) -> int:
        return int(connection.execute(f"SELECT version FROM {MARK}").get)

    def close(self) -> None:
        self._connection.close()


class World:
    """Members of one list, each with a file of its own or sharing one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries: Entries = []
        self._open: list[Store | Member] = []

    def member(self, name: str) -> Member:
        member = Member(self.folder / f"{name}.db", self.entries)
        self._open.append(member)
        return member

    def store(self, name: str) -> tuple[Store, Member]:
        member = self.member(name)
        store = Store(member.path, SystemClock(), "off", upstream=member)
        self._open.append(store)
        return store, member

    def close(self) -> None:
        for one in reversed(self._open):
            one.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A list that is empty."""
    world = World(tmp_path)
    yield world
    world.close()


def runs_in(store: Store) -> list[tuple[int, str]]:
    return [(key, run_id) for key, run_id in store.rows("SELECT key, id FROM runs ORDER BY key")]


def notes_in(store: Store) -> list[str]:
    return [value for (value,) in store.rows("SELECT value FROM journal WHERE type = 'callback.error' ORDER BY id")]


def journal_of(store: Store) -> list[tuple[Any, ...]]:
    return store.rows("SELECT * FROM journal ORDER BY id")


def finding(run_id: str, tries: list[str]) -> Callable[[Transaction], str]:
    """An operation that changes nothing, and is refused where the run is not known."""

    def find(transaction: Transaction) -> str:
        tries.append(run_id)
        return transaction.find(run_id).id

    return find


def runs_seen(transaction: Transaction) -> list[str]:
    return [row[0] for row in transaction.connection.execute("SELECT id FROM runs")]


# --------------------------------------------------------------------------------------------------- accepted


def test_what_is_accepted_is_in_the_list_and_in_the_copy(world: World) -> None:
    """One commit is one entry, and another member that applies it has the same rows."""
    (ours, _), (theirs, their_member) = world.store("ours"), world.store("theirs")
    assert commit(ours, starting("a"), starting("b")).operations[0].error is None
    assert len(world.entries) == 1
    assert their_member.catch_up()
    assert runs_in(theirs) == runs_in(ours) == [(1, "a"), (2, "b")]
    assert journal_of(theirs) == journal_of(ours)


def test_what_changes_nothing_is_not_asked_about(world: World) -> None:
    """A group without a change and without a refusal needs nobody."""
    store, member = world.store("ours")
    assert commit(store, lambda transaction: transaction.highest_run).operations[0].result == 0
    assert (world.entries, member.looks) == ([], 0)


def test_a_group_that_is_too_large_becomes_several(world: World) -> None:
    """What fits by itself goes through, only what does not fit alone has the error, and all of it is told once."""
    store, member = world.store("ours")
    member.largest = 6_000
    commit(store, starting("run"))
    others = [starting(f"r{number}", f'"{number * 1_000:2500}"') for number in range(5)]
    group = commit(store, *others, starting("huge", f'"{"x" * 9_000}"'), recording(1, '"note"'))
    errors = [operation.error for operation in group.operations]
    assert [type(error) for error in errors] == [type(None)] * 5 + [ChangeTooLargeError, type(None)]
    assert [run_id for _, run_id in runs_in(store)] == ["run", *(f"r{number}" for number in range(5))]
    assert {key: len(change.events) for key, change in group.changes.items()} == dict.fromkeys(range(1, 7), 1)
    assert all(len(entry) <= member.largest for entry in world.entries)
    assert [row[0] for row in journal_of(store)] == list(range(1, 8))


def test_a_deletion_does_not_hold_what_it_deletes(world: World) -> None:
    """So that many large runs can be pruned in one commit."""
    (ours, _), (theirs, their_member) = world.store("ours"), world.store("theirs")
    commit(ours, starting("run", f'"{"x" * 50_000}"'))

    def delete(transaction: Transaction) -> None:
        for query in ("delete_run", "delete_journal"):
            transaction.connection.execute(QUERIES[query], (1,))

    assert commit(ours, delete).operations[0].error is None
    assert len(world.entries[0]) > 50_000 > 1_000 > len(world.entries[1])
    their_member.catch_up()
    assert runs_in(theirs) == runs_in(ours) == []
    assert journal_of(theirs) == journal_of(ours)


# --------------------------------------------------------------------------------------------------- lost races


def test_a_group_that_lost_the_race_is_done_again_on_exact_state(world: World) -> None:
    """What the other member did first is there when the group runs again, so no key is given twice."""
    (ours, member), (theirs, their_member) = world.store("ours"), world.store("theirs")
    member.before_publish = lambda: commit(theirs, starting("theirs"))
    group = commit(ours, starting("ours"))
    assert group.operations[0].error is None
    assert runs_in(ours) == [(1, "theirs"), (2, "ours")]
    their_member.catch_up()
    assert journal_of(theirs) == journal_of(ours)


def test_a_group_that_lost_the_race_tells_what_the_other_did(world: World) -> None:
    """What came first is foreign to the group, what the group did is its own, each once."""
    (ours, member), (theirs, _) = world.store("ours"), world.store("theirs")
    member.before_publish = lambda: commit(theirs, starting("theirs"))
    group = commit(ours, starting("ours"))
    assert {key: len(change.events) for key, change in group.foreign.items()} == {1: 1}
    assert {key: len(change.events) for key, change in group.changes.items()} == {2: 1}


def test_a_race_can_be_lost_several_times(world: World) -> None:
    """The group is done again until nobody comes first, and tells everything that did."""
    (ours, member), (theirs, their_member) = world.store("ours"), world.store("theirs")
    commit(ours, starting("run"))
    their_member.catch_up()

    def again(left: int) -> None:
        commit(theirs, recording(1, f'"{left}"'))
        if left:
            member.before_publish = lambda: again(left - 1)

    member.before_publish = lambda: again(2)
    group = commit(ours, recording(1, '"ours"'))
    assert notes_in(ours) == ['"2"', '"1"', '"0"', '"ours"']
    assert len(group.foreign[1].events) == 3
    assert group.foreign[1].state.event + 1 == group.changes[1].state.event


def test_ids_go_on_after_a_lost_race(world: World) -> None:
    """The next group stands on both, without looking again."""
    (ours, member), (theirs, _) = world.store("ours"), world.store("theirs")
    member.before_publish = lambda: commit(theirs, starting("theirs"))
    commit(ours, starting("ours"))
    looks = member.looks
    assert commit(ours, starting("next")).operations[0].error is None
    assert runs_in(ours)[-1] == (3, "next")
    assert [row[0] for row in journal_of(ours)] == [1, 2, 3]
    assert member.looks == looks


def test_a_refusal_of_the_lost_try_is_forgotten(world: World) -> None:
    """The outcome of an operation is the one of the try that was accepted."""
    (ours, member), (theirs, _) = world.store("ours"), world.store("theirs")
    tries: list[str] = []
    member.before_publish = lambda: commit(theirs, starting("theirs"))
    group = commit(ours, finding("theirs", tries), starting("ours"))
    assert [operation.error for operation in group.operations] == [None, None]
    assert group.operations[0].result == "theirs"
    assert tries == ["theirs", "theirs"]


def test_what_the_lost_try_allowed_is_refused_where_the_other_won(world: World) -> None:
    """Both members start a run with one id: the second one is refused, and the list has it once."""
    (ours, member), (theirs, _) = world.store("ours"), world.store("theirs")

    def start_unless_known(transaction: Transaction) -> str:
        try:
            transaction.find("run")
        except RunNotFoundError:
            starting("run")(transaction)
            return "new"
        return "known"

    member.before_publish = lambda: commit(theirs, start_unless_known)
    group = commit(ours, start_unless_known)
    assert group.operations[0].result == "known"
    assert group.changes == {}
    assert len(world.entries) == 1


# ----------------------------------------------------------------------------------------------------- refusals


def test_a_refusal_is_checked_against_what_is_accepted_now(world: World) -> None:
    """What the copy has not heard of yet is looked for before somebody is told that it is not there."""
    (ours, _), (theirs, _) = world.store("ours"), world.store("theirs")
    commit(theirs, starting("theirs"))
    tries: list[str] = []
    operation = commit(ours, finding("theirs", tries)).operations[0]
    assert (operation.error, operation.result) == (None, "theirs")
    assert tries == ["theirs", "theirs"]


def test_a_refusal_that_is_still_true_stands(world: World) -> None:
    """With nothing new there is no second try."""
    store, member = world.store("ours")
    tries: list[str] = []
    operation = commit(store, finding("nobody", tries)).operations[0]
    assert isinstance(operation.error, RunNotFoundError)
    assert (tries, member.looks) == (["nobody"], 1)


def test_a_refusal_is_checked_although_a_neighbour_caught_up_first(world: World) -> None:
    """Another process with the same copy fetches what is new; this one's refusal is out of date all the same."""
    (ours, member), (theirs, _) = world.store("ours"), world.store("theirs")
    neighbour = world.member("ours")
    commit(theirs, starting("theirs"))
    tries: list[str] = []
    member.before_catch_up = neighbour.catch_up
    operation = commit(ours, finding("theirs", tries)).operations[0]
    assert (operation.error, operation.result) == (None, "theirs")


def test_a_persons_answer_that_changes_nothing_is_checked(world: World) -> None:
    """A start that is there already is told so only of what is accepted now."""
    (ours, member), (theirs, _) = world.store("ours"), world.store("theirs")
    commit(theirs, starting("theirs"))

    with ours.lock:
        (operation,) = ours.commit([Operation(runs_seen, human=True)]).operations
    assert operation.result == ["theirs"]
    assert member.looks > 0


def test_a_refusal_that_cannot_be_checked_is_trouble_of_the_store(world: World) -> None:
    """Who cannot ask does not say that something is not there."""
    store, member = world.store("ours")
    member.is_cut_off = True
    operation = commit(store, finding("nobody", [])).operations[0]
    assert isinstance(operation.error, StoreError)
    member.is_cut_off = False
    assert isinstance(commit(store, finding("nobody", [])).operations[0].error, RunNotFoundError)


# ---------------------------------------------------------------------------------------------- unknown outcomes


def test_an_answer_that_got_lost_is_read_back(world: World) -> None:
    """The change was accepted, so the group succeeded; its rows came with what was accepted."""
    store, member = world.store("ours")
    member.after_accepting = StoreError("a list", "the answer got lost")
    group = commit(store, starting("run"))
    assert group.operations[0].error is None
    assert list(group.changes) == [1]
    assert (len(world.entries), runs_in(store)) == (1, [(1, "run")])


def test_a_change_without_a_journal_row_is_read_back_too(world: World) -> None:
    """What only a setting tells is known by the change itself."""
    store, member = world.store("ours")
    member.after_accepting = StoreError("a list", "the answer got lost")
    operation = Operation(lambda transaction: transaction.connection.execute(QUERIES["put_setting"], ("name", "value")))
    with store.lock:
        store.commit([operation])
    assert operation.error is None
    assert store.rows("find_setting", ("name",)) == [("value",)]


def test_an_answer_that_got_lost_is_read_back_behind_what_followed(world: World) -> None:
    """Another member has gone on from our change before we asked."""
    (ours, member), (theirs, their_member) = world.store("ours"), world.store("theirs")
    member.after_accepting = StoreError("a list", "the answer got lost")

    def go_on() -> None:
        their_member.catch_up()
        commit(theirs, starting("theirs"))

    member.before_catch_up = go_on
    assert commit(ours, starting("ours")).operations[0].error is None
    assert commit(ours, starting("next")).operations[0].error is None
    assert runs_in(ours) == [(1, "ours"), (2, "theirs"), (3, "next")]


def test_a_change_that_did_not_get_through_fails_and_leaves_nothing(world: World) -> None:
    """Every operation of the group has the error, and the next group works."""
    store, member = world.store("ours")
    member.before_accepting = StoreError("a list", "cannot be reached")
    group = commit(store, starting("a"), starting("b"))
    assert [type(operation.error) for operation in group.operations] == [StoreError, StoreError]
    assert (world.entries, runs_in(store), group.changes) == ([], [], {})
    assert commit(store, starting("c")).operations[0].error is None
    assert runs_in(store) == [(1, "c")]


def test_the_change_of_another_is_not_taken_for_ours(world: World) -> None:
    """Ours did not get through, another's stands where it would have stood."""
    (ours, member), (theirs, _) = world.store("ours"), world.store("theirs")
    member.before_accepting = StoreError("a list", "cannot be reached")
    member.before_publish = lambda: commit(theirs, starting("theirs"))
    assert isinstance(commit(ours, starting("ours")).operations[0].error, StoreError)
    assert commit(ours, starting("next")).operations[0].error is None
    assert runs_in(ours) == [(1, "theirs"), (2, "next")]


def test_what_was_accepted_unknown_to_us_is_noticed_later(world: World) -> None:
    """While nobody answers the group has failed; once somebody does, its change is news like another's."""
    store, member = world.store("ours")
    member.after_accepting = StoreError("a list", "the answer got lost")
    member.before_catch_up = lambda: setattr(member, "is_cut_off", True)
    assert isinstance(commit(store, starting("run")).operations[0].error, StoreError)
    assert runs_in(store) == []
    member.is_cut_off = False
    member.catch_up()
    changes = store.poll()
    assert changes is not None
    assert [change.state.id for change in changes.values()] == ["run"]


# ---------------------------------------------------------------------------------------------- with the engine


async def test_an_operation_done_again_has_no_effect_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that loses every race executes each step once, and its run has each event once."""
    theirs, their_member = world.store("theirs")
    member = world.member("ours")
    done: list[int] = []
    lost = 0

    def lose() -> None:
        nonlocal lost
        lost += 1
        their_member.catch_up()
        commit(theirs, starting(f"theirs-{lost}"))

    publish, is_again = member.publish, False

    def losing(connection: apsw.Connection, change: bytes, *, is_news: bool) -> bool:
        nonlocal is_again
        if not is_again:
            lose()
        is_again = not publish(connection, change, is_news=is_news)
        return not is_again

    async def note(value: int) -> int:
        done.append(value)
        return value

    async def flow(ctx: Context) -> int:
        first = await ctx.step(note, 1)
        return first + sum(await ctx.gather(ctx.step(note, 2), ctx.step(note, 3)))

    async def open_engine() -> EmbeddedEngine:
        engine = EmbeddedEngine(member.path, durability="off", upstream=member)
        await engine.begin(worker=True, log_level=20)
        return engine

    workflow: Workflow[None, int] = Workflow(flow, name="upstream-flow")
    monkeypatch.setitem(known_workflows(), workflow.name, workflow)
    async with Client(open_engine) as client:
        member.publish = losing  # type: ignore[method-assign]
        execution = await client.create_run(workflow).start()
        assert await execution.result == 6
        events = [event.number async for event in execution.events()]
    assert sorted(done) == [1, 2, 3]
    assert events == list(range(1, len(events) + 1))
    assert lost > 2
    their_member.catch_up()
    with apsw.Connection(str(member.path)) as copy:
        assert journal_of(theirs) == copy.execute("SELECT * FROM journal ORDER BY id").fetchall()


# --------------------------------------------------------------------------------------------- opened by mistake


def test_a_copy_is_refused_as_a_plain_database(world: World) -> None:
    """Written without the list it would not be a copy any more; the error says of what it is one."""
    _, member = world.store("ours")
    with pytest.raises(EngineError, match="copy of a list"):
        Store(member.path, SystemClock(), "off")


async def test_connect_refuses_a_copy(world: World) -> None:
    """The path of a copy is no URL of a ledger."""
    _, member = world.store("ours")
    with pytest.raises(EngineError, match="copy of a list"):
        async with connect(member.path):
            pass


def test_a_copy_can_be_saved_as_a_database_of_its_own(world: World, tmp_path: Path) -> None:
    """Also when what it was copied from is gone for good."""
    store, _ = world.store("ours")
    commit(store, starting("run"))
    assert save_copy(store.path, tmp_path / "saved.db")
    saved = Store(tmp_path / "saved.db", SystemClock())
    assert runs_in(saved) == [(1, "run")]
    saved.close()


def test_a_plain_database_is_no_copy_to_save(tmp_path: Path) -> None:
    """It is copied while it is open, by its engine."""
    Store(tmp_path / "runs.db", SystemClock()).close()
    assert not save_copy(tmp_path / "runs.db", tmp_path / "saved.db")
    assert not (tmp_path / "saved.db").exists()
