"""A simulated world in which every call, every death and every setting of a clock is kept, in order."""

from __future__ import annotations

from typing import Any

from tests.lab.callers import hear
from tests.lab.linearizable import Call
from tests.lab.sim.node import Node
from tests.lab.sim.world import World


class Process(Node):
    """A process whose death is part of the history."""

    def die(self) -> None:
        world = self.world
        if not self.is_dead and isinstance(world, Room) and not world.is_over:
            world.on_death(self)
        super().die()

    def set_clock(self, by_us: int) -> None:
        super().set_clock(by_us)
        if isinstance(self.world, Room):
            self.world.clocks.append((self.world.next_place(), self.number, self.skew_us))


class Room(World):
    """A world in which every call is kept."""

    def __init__(self, seed: str) -> None:
        super().__init__(seed)
        self.calls: list[Call] = []
        self.instants: list[int] = []
        self.clocks: list[tuple[int, int, int]] = []
        self.ends: dict[int, int] = {}

    def next_place(self) -> int:
        """The place of an event that is now."""
        self.instants.append(self.now_us)
        return len(self.instants) - 1

    def new_node(self, *, worker: bool, linger_ms: int = 1_000, concurrency: int = 100) -> Node:
        node = Process(self, len(self.nodes), worker=worker, linger_ms=linger_ms, concurrency=concurrency)
        self.nodes.append(node)
        self.clocks.append((self.next_place(), node.number, node.skew_us))
        return node

    def on_death(self, node: Node) -> None:
        """Whatever was asked of it and not answered has happened by now, or never will."""
        place = self.ends[node.number] = self.next_place()
        for call in self.calls:
            if call.process == node.number and call.returned is None and call.returned_us is None:
                call.returned = place

    def ask(self, client: str, node: Node, act: tuple[Any, ...]) -> Call:
        """Somebody calls."""
        call = Call(client, node.number, act, self.next_place(), called_us=self.now_us)
        self.calls.append(call)
        return call

    def hear(self, call: Call, reply: Any) -> None:
        """The caller is told what came of it."""
        call.returned_us = self.now_us
        self.calls += hear(call, reply, self.next_place())

    def lose(self, call: Call) -> None:
        """The caller is told of trouble, or has gone: the call may come to pass at any later instant, or never."""
        call.returned_us = self.now_us

    def clock_calls(self, deadline_us: int) -> list[Call]:
        """When the clock of which process passed the deadline, or was set back before it."""
        found = []
        for number in range(len(self.nodes)):
            spans = [(place, skew) for place, process, skew in self.clocks if process == number]
            end = self.ends.get(number, len(self.instants))
            was_over = False
            for index, (place, skew) in enumerate(spans):
                until = spans[index + 1][0] if index + 1 < len(spans) else end
                crossing_us = deadline_us - skew
                places = range(place, min(until + 1, len(self.instants)))
                over_from = next((one for one in places if self.instants[one] >= crossing_us), None)
                if was_over and over_from != place:
                    found.append(Call("clock", number, ("clock", False), place, place, True))
                    was_over = False
                if not was_over and over_from is not None:
                    place = over_from
                    found.append(Call("clock", number, ("clock", True), place - 0.5, place - 0.5, True))
                    was_over = True
            if was_over and number in self.ends:
                found.append(Call("clock", number, ("clock", False), end + 0.25, end + 0.25, True))
        return found
