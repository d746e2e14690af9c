"""Readers of live event streams, over any number of cuts: what they read must be everything, in order."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx2

from tests.lab.harness import Tally
from tests.lab.product.history import now

_PAUSE_S = 0.01


async def _messages(response: httpx2.Response) -> AsyncIterator[tuple[str, str, str]]:
    """Kind, id and data of each whole message; what is cut off at the end is none."""
    left = b""
    async for chunk in response.aiter_bytes():
        *whole, left = (left + chunk).split(b"\n\n")
        for text in whole:
            fields = dict(line.split(": ", 1) for line in text.decode().split("\n") if ": " in line and line[0] != ":")
            if "data" in fields:
                yield fields.get("event", "message"), fields.get("id", ""), fields["data"]


class Listener:
    """One reader, of all runs or of one, that goes on with the last id that it has.

    Args:
        urls: where the servers are.
        token: who reads.
        run_id: which run; None for all.
        chance: when it leaves by itself and comes again.
        tally: how often it did.

    Attributes:
        events: what was read, in the order in which it came.
        committed: when the result of a step was first read of, by the step's key.
        wrong: sentences about what was read.
        last: id of the newest message.
        url: where it listens now.
        stays: it does not leave by itself any more.
        has_ended: the server said that the run is over.
    """

    def __init__(
        self, urls: list[str], token: str, run_id: str | None, chance: random.Random, tally: Tally, stay_s: float
    ) -> None:
        self.run_id = run_id
        self.events: list[dict[str, Any]] = []
        self.committed: dict[str, int] = {}
        self.wrong: list[str] = []
        self.has_ended = False
        self.stays = False
        self.last = 0
        self.url = ""
        self._urls = urls
        self._path = "/api/v1/events" if run_id is None else f"/api/v1/runs/{run_id}/events"
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
        self._chance = chance
        self._tally = tally
        self._stay_s = stay_s

    async def listen(self) -> None:
        """Read until the run ends, or until it is cancelled."""
        async with httpx2.AsyncClient(timeout=30.0, trust_env=False) as http:
            while not self.has_ended:
                try:
                    stay_s = None if self.stays else self._chance.random() * 2 * self._stay_s
                    async with asyncio.timeout(stay_s):
                        await self._listen_once(http)
                except TimeoutError:
                    self._tally.count("reconnects of streams by themselves")
                except httpx2.TransportError:
                    self._tally.count("reconnects of streams that were cut")
                    await asyncio.sleep(_PAUSE_S)

    async def _listen_once(self, http: httpx2.AsyncClient) -> None:
        headers = {**self._headers, "Last-Event-ID": str(self.last)} if self.last else self._headers
        self.url = self._chance.choice(self._urls)
        async with http.stream("GET", self.url + self._path, headers=headers) as response:
            if response.status_code != 200:
                await response.aread()
                if response.status_code not in (429, 503):
                    self.wrong.append(f"stream of {self.run_id} was refused with {response.status_code}")
                    self.has_ended = True
                await asyncio.sleep(_PAUSE_S)
                return
            async for kind, number, data in _messages(response):
                self._take(kind, number, data)

    def _take(self, kind: str, number: str, data: str) -> None:
        if kind == "end":
            self.has_ended = True
        elif kind == "reset":
            self.wrong.append(f"stream of {self.run_id} was told to start anew after {self.last}: {data}")
            self.has_ended = True
        elif kind == "message":
            event = json.loads(data)
            place = int(number)
            own = event["cursor"] if self.run_id is None else event["number"]
            if place != own:
                self.wrong.append(f"stream of {self.run_id}: event {own} has the id {place}")
            if place != self.last + 1:
                self.wrong.append(f"stream of {self.run_id}: {place} came after {self.last}")
            self.last = place
            self.events.append(event)
            if event["type"] == "step.completed":
                self.committed.setdefault(f"{event['runId']}:{event['key']}", now())
