"""The simulated world: the true time, the processes, the one file, and what goes wrong with them."""

from __future__ import annotations

import gc
import heapq
import itertools
import random
import sys
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import apsw

from osprotocol._embedded.store import Group, Store
from tests.lab.sim.disk import the_disk
from tests.lab.sim.loop import START_US
from tests.lab.sim.node import Node

_MOST_AT_ONCE = 8

_COLLECT_EVERY = 64

_numbers = itertools.count(1)


class World:
    """Everything of one schedule. The same seed gives the same world, event for event.

    Attributes:
        problems: sentences about what must never happen and did.
        reached: how often which situation came to pass.
        is_calm: nothing goes wrong any more.
    """

    def __init__(self, seed: str) -> None:
        self.chance = random.Random(seed)
        self._disk = the_disk()
        self._disk.mount()
        self.path = self._disk.path
        self.now_us = START_US
        self.skew_us = 0
        self.nodes: list[Node] = []
        self.turning: Node | None = None
        self.turns = 0
        self.deaths = 0
        self.commits = 0
        self.trace = 0
        self.is_calm = False
        self.is_over = False
        self.problems: list[str] = []
        self.reached: Counter[str] = Counter()
        self.fault_rate = 0.0
        self.faults: dict[int, str] = {}
        self.on_commit: Callable[[Node, Group], None] = lambda node, group: None
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._deferred: list[Any] = []
        self._priorities: dict[int, float] | None = None
        self._reader: apsw.Connection | None = None
        self._slow_disk = self.chance.random() < 0.3
        if self.chance.random() < 0.5:
            self._priorities = {}

    # ------------------------------------------------------------------ making

    def new_node(self, *, worker: bool, linger_ms: int = 1_000, concurrency: int = 100) -> Node:
        """A process that has yet to connect."""
        node = Node(self, len(self.nodes), worker=worker, linger_ms=linger_ms, concurrency=concurrency)
        self.nodes.append(node)
        return node

    def new_number(self) -> int:
        return next(self._order)

    def at(self, when_us: int, what: Callable[[], None]) -> None:
        """Something that happens at that instant, whatever the processes do."""
        heapq.heappush(self._agenda, (when_us, next(self._order), what))

    def after(self, us: int, what: Callable[[], None]) -> None:
        self.at(self.now_us + us, what)

    def wrong(self, what: str, error: BaseException | None = None) -> None:
        """Something must never happen and did."""
        if not self.is_over and len(self.problems) < 20:
            self.problems.append(what)

    def mark(self, name: str) -> None:
        self.reached[name] += 1

    # ------------------------------------------------------------------ chance

    def thread_delay_s(self) -> float:
        """How long it takes until a thread runs, or is heard of."""
        chance = self.chance.random()
        return 0.00002 if chance < 0.6 else 0.001 * chance if chance < 0.95 else 0.03

    def commit_us(self) -> int:
        """How long a commit holds whoever makes it."""
        chance = self.chance.random()
        if self._slow_disk:
            return 1_000 + int(8_000 * chance)
        return 60 if chance < 0.7 else 900 if chance < 0.97 else 15_000

    def fault_of(self, node: Node) -> str | None:
        """What goes wrong with the commit that a process begins now."""
        self.commits += 1
        if self.is_calm:
            return None
        fault = self.faults.get(self.commits)
        if fault is None and self.fault_rate and self.chance.random() < self.fault_rate:
            fault = self.chance.choice(("busy", "refused", "unknown", "unknown"))
        if fault is not None:
            if node.engine is None and fault.startswith("die"):
                return None
            self.mark(f"commit: {fault}")
        return fault

    # ------------------------------------------------------------------ what happens

    def committed(self, node: Node, group: Group, fault: str | None) -> None:
        """A process has committed: the others are told by and by."""
        self.trace = zlib.crc32(b"%d %d" % (node.number, len(group.changes)), self.trace)
        for key, change in group.changes.items():
            for event in change.events:
                self.trace = zlib.crc32(f"{key} {event.number} {event.type}".encode(), self.trace)
        if fault == "unknown" and group.changes:
            self.mark("a commit of unknown outcome had happened")
        self.on_commit(node, group)
        for other in self.nodes:
            if not other.is_dead:
                for watch in list(other.watches.values()):
                    self.after(self.chance.choice((0, 50, 2_000, 20_000)), watch.written)

    def defer(self, store: Store) -> None:
        """Close a dead process's connections once nobody stands in them."""
        self._deferred.append(store)

    def _close_dead(self) -> None:
        while self._deferred:
            store = self._deferred.pop()
            store._closed = True
            for connection in (store._writer, store.reader):
                if connection is not None:
                    connection.close(True)

    # ------------------------------------------------------------------ running

    def run(self, until: Callable[[], bool], *, turns: int, us: int) -> bool:
        """Let the world go on until something is so; False when so much has passed before, or nothing can happen."""
        last_turn, last_us = self.turns + turns, self.now_us + us
        while not until():
            if self.turns >= last_turn or self.now_us >= last_us or self.problems:
                return False
            if not self._step():
                return False
        return True

    def _step(self) -> bool:
        while self._agenda and self._agenda[0][0] <= self.now_us:
            heapq.heappop(self._agenda)[2]()
            self._close_dead()
        ready, now_us = [], self.now_us
        for node in self.nodes:
            if not node.is_dead and node.held_us <= now_us:
                loop = node.loop
                if loop._scheduled:
                    loop.gather_due()
                if loop._ready:
                    ready.append(node)
        if not ready:
            return self._pass_time()
        node = self._choose(ready)
        self.turns += 1
        self.turning = node
        node.loop.turn(1 + int(self.chance.random() * _MOST_AT_ONCE))
        self.turning = None
        self._close_dead()
        return True

    def _choose(self, ready: list[Node]) -> Node:
        if len(ready) == 1:
            return ready[0]
        if self._priorities is None:
            return ready[int(self.chance.random() * len(ready))]
        # One process is far ahead of the others, until it falls behind at an instant that nobody expects.
        for node in ready:
            if node.number not in self._priorities:
                self._priorities[node.number] = self.chance.random()
        first = max(ready, key=lambda node: (self._priorities or {})[node.number])
        if self.chance.random() < 0.02:
            self._priorities[first.number] = min(self._priorities.values()) - 1
        return first

    def _pass_time(self) -> bool:
        instants = [self._agenda[0][0]] if self._agenda else []
        for node in self.nodes:
            if not node.is_dead:
                due = self.now_us if node.loop.has_ready else node.loop.next_due_us
                if due is not None:
                    instants.append(max(due, node.held_us))
        if not instants:
            return False
        self.now_us = max(self.now_us, min(instants))
        return True

    # ------------------------------------------------------------------ looking

    @property
    def reader(self) -> apsw.Connection:
        """A connection of the observer's own."""
        if self._reader is None:
            self._reader = self._disk.open_reader()
        return self._reader

    def rows(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        return self.reader.execute(sql, arguments).fetchall()

    def end(self) -> None:
        """Let go of everything."""
        self.is_over = True
        hook, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
        try:
            with warnings.catch_warnings(action="ignore"):
                for node in self.nodes:
                    node.die()
                    node.bury()
        finally:
            sys.unraisablehook = hook
        self._close_dead()
        if self._reader is not None:
            self._reader.close()
        self._disk.unmount()
        if next(_numbers) % _COLLECT_EVERY == 0:
            gc.collect()
