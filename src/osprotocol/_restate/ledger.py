"""The ledger: the Virtual Objects of Restate that hold what is true. Nothing else of ours is called by Restate.

``OspLedger`` is an append-only list of changes, one object a namespace. Whoever appends says on which entry the change
stands; if that is not the newest one any more, nothing is written and the reply has what came in between. So the
handlers know nothing of runs, are the same in every version, and are deterministic: a retry decides alike.

That is also why whoever waits in this process is told before Restate has stored the reply: the request is in
Restate's log before a handler sees it, and nobody else can write to the object until this very decision is stored.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, NamedTuple

import restate
from restate.serde import BytesSerde

from osprotocol._ids import Ids
from osprotocol._restate.frames import Header, frame, unframe

LEDGER: Final = "OspLedger"
WORKERS: Final = "OspWorkers"
ARCHIVE: Final = "OspArchive"
SNAPSHOT: Final = "OspSnapshot"
PROTOCOL: Final = 1
"""Of requests and replies; a ledger refuses others."""

GENESIS: Final = "0" * 64
_NO_SNAPSHOT: Final = {"snapshot": 0, "name": "", "count": 0, "size": 0}
_NO_ARCHIVE: Final = {"archived": 0, "archived_chain": GENESIS, "tail": 0}
PROCESS = Ids().secret()
"""This process, as it is told in requests: it hears of what is decided here without asking."""

_NO_NEWS_S: Final = 0.02
"""How much later others hear of what they need not act on: of every step it would cost more than it is worth."""
_REPLY_BYTES: Final = 4 * 1_048_576
_ENTRIES_AT_ONCE: Final = 500
_ENTRIES_AT_FIRST: Final = 10
_CLEARED_AT_ONCE: Final = 1_000
_REMEMBERED: Final = 64
# Restate sends a ledger's state along with each call, which saves asking for it: it has to stay small.
_TAIL_ENTRIES: Final = 16
_TAIL_BYTES: Final = 65_536
_TAIL_LEFT: Final = 4
_BYTES: Final[Any] = BytesSerde()
# Restate pauses an invocation after 70 attempts unless told otherwise: a night without workers would stop the ledger.
_again: dict[str, Any] = {
    "initial_interval": timedelta(milliseconds=50),
    "exponentiation_factor": 2.0,
    "max_interval": timedelta(seconds=1),
}
_FOR_EVER = restate.InvocationRetryPolicy(**_again, max_attempts=2**31 - 1)
# Whoever asked to read asks again. Nothing that writes may ever be killed.
_A_FEW_TIMES = restate.InvocationRetryPolicy(**_again, max_attempts=5, on_max_attempts="kill")
_raw: dict[str, Any] = {
    "accept": "*/*",
    "content_type": "application/octet-stream",
    "input_serde": _BYTES,
    "output_serde": _BYTES,
}
_service: dict[str, Any] = {
    # A silent endpoint is given up after both and 5 s more, measured with server 1.7.
    "inactivity_timeout": timedelta(seconds=1),
    "abort_timeout": timedelta(milliseconds=500),
    "journal_retention": timedelta(0),
    "idempotency_retention": timedelta(0),
    "invocation_retry_policy": _FOR_EVER,
}

ledger = restate.VirtualObject(LEDGER, **_service)
archive = restate.VirtualObject(ARCHIVE, enable_lazy_state=True, **_service)
workers = restate.VirtualObject(WORKERS, **_service)
snapshots = restate.VirtualObject(SNAPSHOT, enable_lazy_state=True, **_service)
SERVICES: Final = (ledger, archive, workers, snapshots)

_Reading = restate.ObjectContext | restate.ObjectSharedContext
Told = Callable[[int, bytes], None]
_told: dict[str, list[Told]] = {}
_replies: dict[str, Callable[[bytes], None]] = {}
_waiting: dict[str, dict[asyncio.Event, str]] = {}


class _Decided(NamedTuple):
    """An entry that was decided in this process, and the number and hash of the entry that it stands on."""

    base: int
    chain: str
    entry: bytes


_heads: dict[str, Header] = {}
_decided: dict[str, deque[_Decided]] = {}
"""The newest entries of each ledger, without gaps, up to its head in `_heads`. Others may have been appended since by
another process."""


def _remember(namespace: str, decided: _Decided, head: Header) -> None:
    known = _decided.setdefault(namespace, deque(maxlen=_REMEMBERED))
    before = _heads.get(namespace)
    if before is None or (before["version"], before["chain"]) != (decided.base, decided.chain):
        known.clear()
    known.append(decided)
    while len(known) > 1 and sum(len(one.entry) for one in known) > _REPLY_BYTES:
        known.popleft()
    _heads[namespace] = head


def _decided_after(namespace: str, base: int, chain: str) -> bytes | None:
    """The reply with the entries after one, if they are remembered here."""
    if base == 0:
        return None  # an empty ledger of that name, elsewhere or after a reset, has the same place
    following = [one for one in _decided.get(namespace, ()) if one.base >= base]
    if not following or (following[0].base, following[0].chain) != (base, chain):
        return None
    return frame({"status": "behind", "head": _heads[namespace]}, *(one.entry for one in following))


def _forget_after_fork() -> None:
    """A child is a process of its own, and serves nothing."""
    global PROCESS
    PROCESS = Ids().secret()
    _told.clear()
    _replies.clear()
    _waiting.clear()
    _heads.clear()
    _decided.clear()


os.register_at_fork(after_in_child=_forget_after_fork)


def listen(namespace: str, told: Told) -> Callable[[], None]:
    """Call with version and entry for what is appended by handlers of this process; gives what ends it."""
    _told.setdefault(namespace, []).append(told)
    return lambda: _told[namespace].remove(told)


def expect(token: str, reply: Callable[[bytes], None]) -> Callable[[], None]:
    """Call with the reply to the append of that token, if it is decided in this process; gives what ends it."""
    _replies[token] = reply
    return lambda: _replies.pop(token, None) and None


def chained(previous: str, token: str, change: bytes) -> str:
    """The hash of an entry, which covers all before it: two copies with one hash hold the same."""
    return hashlib.sha256(f"{previous} {token} ".encode() + change).hexdigest()


def _head(stored: bytes | None) -> Header:
    if stored is None:
        empty = {"protocol": PROTOCOL, "version": 0, "chain": GENESIS, "first": 1, "bytes": 0}
        return {**empty, **_NO_ARCHIVE, **_NO_SNAPSHOT}
    return unframe(stored)[0]


@ledger.handler(**_raw)
async def append(ctx: restate.ObjectContext, data: bytes) -> bytes:
    """Append a change if it stands on the newest entry, else say what came in between."""
    asked, (change,) = unframe(data)
    head = _head(await ctx.get("head", serde=_BYTES))
    reply, answer = None, _replies.get(asked["token"])
    if asked["protocol"] != head["protocol"]:
        reply = frame({"status": "protocol", "head": head})
    elif (asked["base"], asked["chain"]) != (head["version"], head["chain"]):
        reply = await _entries(ctx, head, asked["base"], asked["chain"])
    if reply is None:
        chain = chained(head["chain"], asked["token"], change)
        entry = frame({"token": asked["token"], "schema": asked["schema"], "chain": chain}, change)
        grown = {name: head[name] + len(entry) for name in ("bytes", "tail")}
        head |= {"version": head["version"] + 1, "chain": chain, **grown}
        ctx.set(_name(head["version"]), entry, serde=_BYTES)
        if head["tail"] > _TAIL_BYTES or head["version"] - head["archived"] > _TAIL_ENTRIES:
            await _move_old(ctx, head)
        ctx.set("head", frame(head), serde=_BYTES)
        reply = frame({"status": "accepted", "head": head})
        _remember(ctx.key(), _Decided(asked["base"], asked["chain"], entry), head)
        listening = _told.get(ctx.key(), ())
        # Who waits for the reply has the entry.
        for told in listening if answer is None or len(listening) > 1 else ():
            told(head["version"], entry)
        _wake(ctx.key(), asked["member"], 0.0 if asked["is_news"] else _NO_NEWS_S)
    if answer is not None:
        answer(reply)
    return reply


@ledger.handler(kind="shared", inactivity_timeout=timedelta(minutes=1), invocation_retry_policy=_A_FEW_TIMES, **_raw)
async def read(ctx: restate.ObjectSharedContext, data: bytes) -> bytes:
    """What was appended after an entry; with nothing new, waits a while for the next append here.

    What this invocation may read of the state was settled when it began; what was decided here since is remembered.
    """
    asked, _ = unframe(data)
    base, chain = asked["base"], asked["chain"]
    here = asked["process"] == PROCESS
    # Asked for in any case, and first: a retry finds it in its journal.
    head = _head(await ctx.get("head", serde=_BYTES))
    if (base, chain) != (head["version"], head["chain"]):
        return await _entries(ctx, head, base, chain)
    reply = None if here else _decided_after(ctx.key(), base, chain)
    if reply is None and asked["wait_ms"]:
        await _next_append(ctx.key(), asked["wait_ms"] / 1_000, None if here else asked["member"])
        reply = _decided_after(ctx.key(), base, chain)
    return reply or frame({"status": "current", "head": head})


@ledger.handler(**_raw)
async def read_in_turn(ctx: restate.ObjectContext, data: bytes) -> bytes:
    """What was appended after an entry, once everything is stored that was decided before: the answer to who is ahead.

    Entries are told before they are stored. Who has one that is nowhere stored now has left this ledger.
    """
    asked, _ = unframe(data)
    head = _head(await ctx.get("head", serde=_BYTES))
    if (asked["base"], asked["chain"]) == (head["version"], head["chain"]):
        return frame({"status": "current", "head": head})
    return await _entries(ctx, head, asked["base"], asked["chain"])


async def _next_append(namespace: str, wait_s: float, member: str | None) -> None:
    waiting = asyncio.Event()
    if member is not None:
        _waiting.setdefault(namespace, {})[waiting] = member
    try:
        await asyncio.wait_for(waiting.wait(), wait_s)
    except TimeoutError:
        pass
    finally:
        _waiting.get(namespace, {}).pop(waiting, None)


def _wake(namespace: str, by: str, after_s: float) -> None:
    """End the waiting of all members but the one that appended, which knows."""
    loop = asyncio.get_running_loop()
    for waiting, member in _waiting.get(namespace, {}).items():
        if member != by:
            loop.call_later(after_s, waiting.set)


async def _move_old(ctx: restate.ObjectContext, head: Header) -> None:
    """Send all entries but the newest few to the archive."""
    until, size = head["version"], 0
    while head["version"] - until < _TAIL_LEFT:
        size += len(await ctx.get(_name(until), serde=_BYTES) or b"")
        if size > _TAIL_BYTES // 2:
            break
        until -= 1
    first = head["archived"] + 1
    ctx.object_send(store, ctx.key(), frame({"first": first}, *await _take_from_tail(ctx, head, until)))


async def _take_from_tail(ctx: restate.ObjectContext, head: Header, until: int) -> list[bytes]:
    """Clear the oldest entries that are here up to one; gives them."""
    taken = []
    for number in range(head["archived"] + 1, until + 1):
        entry = await ctx.get(_name(number), serde=_BYTES) or b""
        ctx.clear(_name(number))
        taken.append(entry)
        chain = unframe(entry)[0]["chain"]
        head |= {"archived": number, "archived_chain": chain, "tail": head["tail"] - len(entry)}
    return taken


async def _entries(ctx: _Reading, head: Header, base: int, chain: str) -> bytes:
    """The entries after one; or why there are none to give."""
    if base > head["version"]:
        return frame({"status": "ahead", "head": head})
    if base < head["first"] - 1:
        return frame({"status": "compacted", "head": head})
    if base < head["archived"]:
        return frame({"status": "archived", "head": head})
    own = await ctx.get(_name(base), serde=_BYTES)
    if chain != (head["archived_chain"] if own is None else unframe(own)[0]["chain"]):
        return frame({"status": "diverged", "head": head})
    numbers = range(base + 1, head["version"] + 1)
    found = [await ctx.get(_name(number), serde=_BYTES) or b"" for number in numbers]
    return frame({"status": "behind", "head": head}, *found)


def _name(version: int) -> str:
    return f"entry:{version}"


@ledger.handler(**_raw)
async def compact(ctx: restate.ObjectContext, data: bytes) -> bytes:
    """A snapshot holds everything up to an entry: forget entries that it holds. Gives which snapshot is stale now."""
    asked, _ = unframe(data)
    head = _head(await ctx.get("head", serde=_BYTES))
    if head["snapshot"] < asked["snapshot"] <= head["version"]:
        head |= {"bytes": 0, "replaces": head["name"], **{name: asked[name] for name in _NO_SNAPSHOT}}
    if head["name"] != asked["name"]:
        return frame({"stale": asked["name"]})
    end = min(asked["until"], asked["snapshot"]) + 1
    await _take_from_tail(ctx, head, end - 1)
    head["first"] = max(head["first"], end)
    ctx.object_send(forget, ctx.key(), frame({"until": head["first"] - 1}))
    ctx.set("head", frame(head), serde=_BYTES)
    if head["chain"] == _heads.get(ctx.key(), head)["chain"]:
        _heads[ctx.key()] = head
    return frame({"stale": head["replaces"]})


@archive.handler(**_raw)
async def store(ctx: restate.ObjectContext, data: bytes) -> bytes:
    """Take entries that the ledger gives away."""
    asked, entries = unframe(data)
    first = await _first(ctx)
    for number, entry in enumerate(entries, asked["first"]):
        if number >= first:
            ctx.set(_name(number), entry, serde=_BYTES)
    return b""


@archive.handler(kind="shared", invocation_retry_policy=_A_FEW_TIMES, **_raw)
async def read_old(ctx: restate.ObjectSharedContext, data: bytes) -> bytes:
    """The entries after one, at most so many as fit; none if they are still on their way here, or forgotten."""
    asked, _ = unframe(data)
    base = asked["base"]
    # The last that the asker has; it may be forgotten already.
    own = await ctx.get(_name(base), serde=_BYTES) if base else None
    if own is not None and unframe(own)[0]["chain"] != asked["chain"]:
        return frame({"status": "diverged"})
    fitting: list[bytes] = []
    size, following, count = 0, base + 1, _ENTRIES_AT_FIRST
    while count:
        wanted = [ctx.get(_name(number), serde=_BYTES) for number in range(following, following + count)]
        for entry in [await one for one in wanted]:
            if entry is None or (fitting and size + len(entry) > _REPLY_BYTES):
                return frame({"status": "behind"}, *fitting)
            fitting.append(entry)
            size += len(entry)
        following += count
        # As many as are likely to fit: each time something is asked for, all that came before is sent again.
        count = min(_ENTRIES_AT_ONCE - len(fitting), (_REPLY_BYTES - size) * len(fitting) // size)
    return frame({"status": "behind"}, *fitting)


@archive.handler(**_raw)
async def forget(ctx: restate.ObjectContext, data: bytes) -> bytes:
    """Forget old entries, a bounded number at a time."""
    asked, _ = unframe(data)
    first = await _first(ctx)
    end = min(asked["until"] + 1, first + _CLEARED_AT_ONCE)
    for number in range(first, end):
        ctx.clear(_name(number))
    if end > first:
        ctx.set("first", frame({"first": end}), serde=_BYTES)
    if first < end <= asked["until"]:
        ctx.object_send(forget, ctx.key(), data)
    return b""


async def _first(ctx: restate.ObjectContext) -> int:
    stored = await ctx.get("first", serde=_BYTES)
    return 1 if stored is None else int(unframe(stored)[0]["first"])


@workers.handler(**_raw)
async def beat(ctx: restate.ObjectContext, data: bytes) -> bytes:
    """Count a sign of life of a worker; gives the counts of all."""
    asked, _ = unframe(data)
    stored = await ctx.get("beats", serde=_BYTES)
    beats = unframe(stored)[0] if stored is not None else {}
    for worker in asked["gone"]:
        beats.pop(worker, None)
    if asked["worker"] is not None:
        beats[asked["worker"]] = beats.get(asked["worker"], 0) + 1
    ctx.set("beats", frame(beats), serde=_BYTES)
    return frame(beats)


@snapshots.handler(**_raw)
async def put(ctx: restate.ObjectContext, data: bytes) -> bytes:
    """Store one part of a snapshot; the key is namespace and version."""
    asked, (part,) = unframe(data)
    ctx.set(f"part:{asked['number']}", part, serde=_BYTES)
    return b""


@snapshots.handler(kind="shared", invocation_retry_policy=_A_FEW_TIMES, **_raw)
async def get(ctx: restate.ObjectSharedContext, data: bytes) -> bytes:
    """One part of a snapshot; empty if it was dropped."""
    asked, _ = unframe(data)
    return await ctx.get(f"part:{asked['number']}", serde=_BYTES) or b""


@snapshots.handler(**_raw)
async def drop(ctx: restate.ObjectContext, data: bytes) -> bytes:
    """Forget a snapshot that a newer one replaces."""
    ctx.clear_all()
    return b""
