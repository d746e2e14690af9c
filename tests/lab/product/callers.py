"""Callers of a server: they start, vote, answer, pause and cancel, ask again until they are told, and write it down."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import httpx2

from tests.lab.harness import Tally
from tests.lab.product.history import Answer, Cancel, History, Pause, Start, Vote, now
from tests.lab.product.workflows import VOTERS
from tests.lab.product.world import World

_PAUSE_S = 0.02
_PATIENCE_S = 5.0
_AGAIN = (429, 503)
_WORKFLOWS = {"lab.chain": 5, "lab.decide": 5, "lab.ask": 4, "lab.slow": 5, "lab.family": 1}


class Callers:
    """All callers of one case.

    Args:
        world: where the servers are.
        servers: how many there are.
        chance: everything that they do by chance.
        tally: what they reached.

    Attributes:
        is_over: nothing new is started any more.
        tasks: what is still under way and comes to an end.
    """

    def __init__(self, world: World, servers: int, chance: random.Random, tally: Tally) -> None:
        self.history = History()
        self.is_over = False
        self.tasks: set[asyncio.Task[None]] = set()
        self._endless: set[asyncio.Task[None]] = set()
        self._chance = chance
        self._tally = tally
        self._servers = [world.url(place) for place in range(servers)]
        self._tokens = world.tokens
        limits = httpx2.Limits(max_connections=64, max_keepalive_connections=64)
        self._http = httpx2.AsyncClient(timeout=_PATIENCE_S, limits=limits, trust_env=False)
        self._seen: set[tuple[str, str]] = set()
        self._numbers = iter(range(1, 1_000_000_000))

    def spawn(self, work: Any, *, endless: bool = False) -> None:
        """Do something beside the rest; what it raises is wrong."""

        async def guarded() -> None:
            try:
                await work
            except Exception as error:  # noqa: BLE001 - a caller that fails is a finding
                self.history.wrong.append(f"a caller failed: {type(error).__name__}: {error}")

        task, tasks = asyncio.get_running_loop().create_task(guarded()), self._endless if endless else self.tasks
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def close(self) -> None:
        """Let go of everything."""
        tasks = [*self.tasks, *self._endless]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._http.aclose()

    # ------------------------------------------------------------------ one request

    async def send(
        self, method: str, path: str, by: str, body: Any = None, key: str | None = None
    ) -> tuple[int, dict[str, Any]]:
        """One request, once.

        Raises:
            httpx2.TransportError: it is not known what became of it.
        """
        headers = {"Authorization": f"Bearer {self._tokens[by]}", "Content-Type": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
        content = None if body is None else json.dumps(body).encode()
        url = self._chance.choice(self._servers) + "/api/v1" + path
        answer = await self._http.request(method, url, headers=headers, content=content)
        told = json.loads(answer.content) if answer.content else {}
        if answer.status_code >= 500 and answer.status_code not in _AGAIN:
            self.history.wrong.append(f"{method} {path} was answered with {answer.status_code}: {told}")
        if answer.headers.get("Idempotency-Replayed"):
            self._tally.mark("answers given again for the same key")
        return answer.status_code, told

    async def change(self, path: str, by: str, body: Any, what: str, key: str) -> tuple[int, dict[str, Any]]:
        """One change, sent with its key until it is answered."""
        tries = 0
        while True:
            tries += 1
            try:
                status, told = await self.send("POST", path, by, body, key)
            except httpx2.TransportError:
                self._tally.mark(f"{what} of unknown outcome, sent again")
            else:
                if status not in _AGAIN:
                    if status < 300:
                        self.history.on_ack(what)
                        self._tally.count(f"{what} told as done")
                    return status, told
            await asyncio.sleep(_PAUSE_S)

    async def get(self, path: str, by: str) -> dict[str, Any]:
        """Read, until somebody answers."""
        while True:
            try:
                status, told = await self.send("GET", path, by)
            except httpx2.TransportError:
                status, told = 0, {}
            if status == 200:
                return told
            await asyncio.sleep(_PAUSE_S)

    def _key(self) -> str:
        return f"key-{next(self._numbers)}"

    # --------------------------------------------------------------------- starting

    async def starting(self, by: str, pause_s: float) -> None:
        """Start runs, one after the other, until it is over."""
        while not self.is_over:
            workflow = self._chance.choices(list(_WORKFLOWS), list(_WORKFLOWS.values()))[0]
            start = Start(by, workflow, f"n{next(self._numbers)}")
            self.history.starts.append(start)
            body: dict[str, Any] = {"workflow": workflow, "input": start.label}
            if self._chance.random() < 0.3:
                body["options"] = {"idempotencyKey": f"own-{start.label}"}
            key = self._key()
            if self._chance.random() < 0.15:  # two at once, of which the server must make one
                self.spawn(self._start(start, body, key))
            await self._start(start, body, key)
            if self._chance.random() < 0.25:
                self.spawn(self._start_again(start, body, key))
            if workflow == "lab.slow" and start.told:
                what = self._chance.choice((self._cancelling, self._pausing))
                self.spawn(what(start.told[0], self._chance.choice(("sam", "liv"))))
            await asyncio.sleep(self._chance.random() * 2 * pause_s)

    async def _start(self, start: Start, body: dict[str, Any], key: str) -> None:
        status, told = await self.change("/runs", start.by, body, "starts", key)
        if status in (200, 201):
            start.told.append(told["id"])
        else:
            self.history.wrong.append(f"start {start.label} was refused with {status}: {told}")

    async def _start_again(self, start: Start, body: dict[str, Any], key: str) -> None:
        """The same key later: the same run. With another body: a conflict."""
        await asyncio.sleep(self._chance.random() * 0.8)
        await self._start(start, body, key)
        other = {**body, "input": f"{start.label}-other"}
        status, told = await self.change("/runs", start.by, other, "conflicts", key)
        if status != 409:
            self.history.wrong.append(f"key of {start.label} with another body was answered with {status}: {told}")
        self._tally.mark("keys used again with another body")

    # ------------------------------------------------------------ people who answer

    async def voting(self, by: str) -> None:
        """Vote on what is open, each request once in a while twice."""
        while True:
            page = await self.get("/requests?kind=approval&mine=true&limit=200", by)
            for request in page["items"]:
                if (request["id"], by) not in self._seen:
                    self._seen.add((request["id"], by))
                    self.spawn(self._vote(request, by))
            await asyncio.sleep(0.03)

    async def _vote(self, request: dict[str, Any], by: str) -> None:
        approved = self._chance.random() < 0.7
        seen = f"{request['revision']}:{request['digest']}"
        key = self._key()
        again = self._chance.random()
        if again < 0.15:  # the same twice at once
            self.spawn(self._vote_once(request["id"], by, approved, {"seen": seen}, key))
        await self._vote_once(request["id"], by, approved, {"seen": seen}, key)
        if again > 0.85:  # another vote of the same person: the same counts once, the opposite is refused
            other = approved if again > 0.93 else not approved
            await self._vote_once(request["id"], by, other, {}, self._key())

    async def _vote_once(self, request: str, by: str, approved: bool, body: Any, key: str) -> None:
        vote = Vote(request, by, approved)
        self.history.votes.append(vote)
        verb = "approve" if approved else "reject"
        status, told = await self.change(f"/requests/{request}/{verb}", by, body, "votes", key)
        vote.status, vote.code = status, str(told.get("code", ""))

    async def answering(self, by: str) -> None:
        """Answer inputs, and whatever needs attention."""
        while True:
            page = await self.get("/requests?limit=200", by)
            for request in page["items"]:
                place = (f"{request['id']}:{request['revision']}", by)
                if request["kind"] == "approval" or place in self._seen:
                    continue
                self._seen.add(place)
                if request["kind"] == "attention":
                    self._tally.count("runs held because of their workers' deaths")
                self.spawn(self._answer(request, by))
            await asyncio.sleep(0.03)

    async def _answer(self, request: dict[str, Any], by: str) -> None:
        value: object = next(self._numbers) if request["kind"] == "input" else "retry"
        answer, key = Answer(request["id"], by, value), self._key()
        self.history.answers.append(answer)
        path = f"/requests/{request['id']}/respond"
        answer.status, told = await self.change(path, by, {"value": value}, "answers", key)
        answer.code = str(told.get("code", ""))

    # --------------------------------------------------------------------- steering

    async def _cancelling(self, run_id: str, by: str) -> None:
        await asyncio.sleep(self._chance.random() * 0.4)
        cancel = Cancel(run_id, by)
        self.history.cancels.append(cancel)
        body = self._chance.choice(({}, {"graceful": False}, {"reason": "enough"}))
        status, told = await self.change(f"/runs/{run_id}/cancel", by, body, "cancels", self._key())
        cancel.status, cancel.run, cancel.told_at = status, told, now()

    async def _pausing(self, run_id: str, by: str) -> None:
        await asyncio.sleep(self._chance.random() * 0.2)
        pause = Pause(run_id, by)
        self.history.pauses.append(pause)
        pause.status, told = await self.change(f"/runs/{run_id}/pause", by, {}, "pauses", self._key())
        if pause.status != 200:
            return
        for _ in range(20):
            if any(one["kind"] == "paused" and one["settled"] for one in told["waitingOn"]):
                pause.settled_at = now()
                self._tally.mark("pauses seen to be settled")
                break
            told = await self.get(f"/runs/{run_id}", by)
        await asyncio.sleep(self._chance.random() * 0.3)
        pause.resumed_at = now()
        pause.resumed, _ = await self.change(f"/runs/{run_id}/resume", by, {}, "resumes", self._key())

    def begin(self, pause_s: float) -> None:
        """Everybody goes to work."""
        self.spawn(self.starting("sam", pause_s))
        self.spawn(self.starting("liv", pause_s))
        for name in VOTERS:
            self.spawn(self.voting(name), endless=True)
        for name in ("dan", "eve"):
            self.spawn(self.answering(name), endless=True)
