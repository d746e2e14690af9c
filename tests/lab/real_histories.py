"""Histories (T8) with real processes on a real file: nothing is simulated, and nothing can be replayed exactly.

Two processes live for the whole share; each history has a file of its own, and four callers in each of them. The
instants of the calls are those of the machine's monotonic clock.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import apsw

from tests.lab.callers import make_rules, named
from tests.lab.harness import Harness, Tally, Violation, main
from tests.lab.judging import judge
from tests.lab.linearizable import UNHEARD, Call
from tests.lab.real_callers import now_us

_ROOT = Path(__file__).parents[2]
_BLUR_US = 300
"""How far apart two readings of the machine's two clocks may lie."""

_processes: list[subprocess.Popen[str]] = []


def _prepare(tally: Tally) -> None:
    for seat in range(2):
        _processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.lab.real_callers", str(seat)],
                cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
        )  # fmt: skip


def _finish(tally: Tally) -> None:
    while _processes:
        process = _processes.pop()
        with process, contextlib.suppress(BrokenPipeError):
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _tell(seat: int, *command: Any) -> None:
    stdin = _processes[seat].stdin
    assert stdin is not None
    stdin.write(json.dumps(command) + "\n")
    stdin.flush()


def _hear(seat: int) -> Any:
    stdout = _processes[seat].stdout
    assert stdout is not None
    line = stdout.readline()
    if not line:
        raise Violation(f"process {seat} has ended, with {_processes[seat].wait()}")
    return json.loads(line)


def _ask(seat: int, *command: Any) -> Any:
    _tell(seat, *command)
    return _hear(seat)


def _call_of(told: list[Any]) -> Call:
    client, process, act, called, returned, reply = told
    return Call(f"{client} of {process}", process, tuple(act), called, returned, _reply_of(reply))


def _reply_of(reply: Any) -> Any:
    return tuple(named(one) for one in reply) if isinstance(reply, list) else reply


def case(number: int, tally: Tally) -> None:
    """One history."""
    if not all(process.poll() is None for process in _processes) or not _processes:
        _finish(tally)
        _prepare(tally)
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="osp-histories-", dir=place) as folder:
        try:
            _play(number, Path(folder) / "runs.db", tally)
        except BaseException:
            for process in _processes:  # they are in the middle of something
                process.kill()
            _finish(tally)
            raise


def _play(number: int, path: Path, tally: Tally) -> None:
    chance = random.Random(f"real_histories {number}")
    kind = chance.choice(("approval",) * 9 + ("input",) * 4 + ("",) * 3 + ("start",) * 4)
    rules, told = make_rules(kind, chance)
    for seat in range(2):
        _ask(seat, "open", str(path), number, kind)
    begun: dict[str, Any] = _ask(0, "start", told) if kind != "start" else {"run": "", "request": None}
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        calls = _act(begun, connection)
        if kind != "start":
            _ask(0, "settle", begun["run"])
        end = now_us()
        for seat in range(2):
            _ask(seat, "close")
        judge(rules, calls, end, connection, begun["run"])
    finally:
        connection.close()
    _reached(calls, tally)


def _act(begun: dict[str, Any], connection: apsw.Connection) -> list[Call]:
    """Let all act, and say when the clocks passed the deadline."""
    deadline = connection.execute("SELECT min(expires_at) FROM requests").get
    # Two clocks: the callers' instants are of the one, the deadline is of the other.
    ahead_us = time.time_ns() / 1_000 - now_us()
    deadline_us = None if deadline is None else float(deadline) - ahead_us
    for seat in range(2):
        _tell(seat, "act", begun["run"], begun["request"], now_us() + 3_000, deadline_us)
    calls = [_call_of(one) for seat in range(2) for one in _hear(seat)]
    if deadline_us is not None:
        span = deadline_us - _BLUR_US, deadline_us + _BLUR_US
        calls += [Call("clock", seat, ("clock", True), *span, True) for seat in range(2)]
    return calls


def _reached(calls: list[Call], tally: Tally) -> None:
    tally.count("histories")
    tally.count("calls", len(calls))
    acts = [call for call in calls if call.act[0] in ("vote", "answer", "cancel", "start")]
    for one in acts:
        for other in acts:
            first_ended = one.returned is not None and one.returned < other.called
            if one.process < other.process and not first_ended and (other.returned or one.called) >= one.called:
                tally.mark("calls of two processes overlapped")
    if any(call.reply == UNHEARD for call in calls):
        tally.mark("a caller was told of trouble")


HARNESS = Harness(
    name="real_histories",
    title="Histories of concurrent calls at real processes",
    case=case,
    full=300,
    small=12,
    quotas={"calls of two processes overlapped": 300},
    small_marks=("calls of two processes overlapped",),
    prepare=_prepare,
    finish=_finish,
)

if __name__ == "__main__":
    main(HARNESS)
