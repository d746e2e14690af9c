"""A large fleet of parked runs outlives the kill of its process: soon ready, nothing early, all of it goes on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.crash.checks import problems
from tests.lab import parked_flows as flows
from tests.lab.crowd import ended, start, wait_until
from tests.lab.harness import Harness, Tally, Violation, main
from tests.lab.memory_disk import folder_in_memory

_SMALL, _FULL = 150, 10_000
_PATIENCE_S = 300.0
_READY_S, _MEMORY_MB, _APPROVED_S = 2.0, 150.0, 60.0
"""What is asked of the full fleet; judged with the figures of all shares, so that a slow machine fails no test."""
_KINDS = ("asking", "sleeping")


def size_of(number: int) -> tuple[str, int]:
    """What the runs of a case wait for, and how many they are: the first cases are small."""
    return _KINDS[number % 2], _SMALL if number < 2 else _FULL


def case(number: int, tally: Tally) -> None:
    """Fill, kill, start again, let go on."""
    kind, runs = size_of(number)
    with folder_in_memory() as folder, ended() as alive:
        # Nobody lives when the sleepers are due: they are all overdue at the restart.
        ahead_s = 0.5 if runs == _SMALL else 20.0
        until = flows.now_s() + ahead_s
        alive.append(start(flows.fill, str(folder), kind, runs, until))
        filled = folder / "filled"
        wait_until(filled.exists, _PATIENCE_S, lambda: f"{runs} runs are not parked")
        alive[0].kill()
        alive[0].join()
        early = len(_lines(folder / "ledger"))
        if early and (kind == "asking" or flows.now_s() < until):
            raise Violation(f"{early} of {runs} runs went on before somebody, or the time, let them")
        if kind == "sleeping":
            wait_until(lambda: flows.now_s() > until, _PATIENCE_S, lambda: "time does not pass")
        alive.append(start(flows.serve, str(folder), kind, runs))
        wait_until(lambda: "peak" in _told(folder), _PATIENCE_S, lambda: f"{len(_lines(folder / 'ledger'))} of {runs}")
        alive[1].kill()
        alive[1].join()
        _judge(folder, kind, runs, tally)
    tally.mark(kind)
    tally.count("runs parked over a kill", runs)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="ascii").splitlines() if path.exists() else []


def _told(folder: Path) -> dict[str, float]:
    words = [line.split() for line in _lines(folder / "told")]
    return {name: float(value) for name, value in words}


def _judge(folder: Path, kind: str, runs: int, tally: Tally) -> None:
    told, fired = _told(folder), Counter(_lines(folder / "ledger"))
    if told["early"]:
        raise Violation(f"{told['early']:g} claims of waiting runs were made before anybody approved them")
    if len(fired) != runs or max(fired.values()) > 1:
        raise Violation(f"{len(fired)} of {runs} runs went on, one of them {max(fired.values())} times")
    if wrong := problems(folder / "runs.db"):
        raise Violation(wrong[0])
    if runs == _FULL:
        tally.gauge(f"{kind}: ready after, s", told["ready"])
        tally.gauge(f"{kind}: memory at ready, MB", told["memory"])
        tally.gauge(f"{kind}: memory at most, MB", told["peak"])
        tally.gauge(f"{kind}: all {runs} went on within, s", told["all"])
        tally.gauge(f"{kind}: worst wait of a new run meanwhile, s", told["neighbour"])


def _is_as_promised(tally: Tally) -> str | None:
    limits = {"asking: ready after, s": _READY_S, "asking: memory at ready, MB": _MEMORY_MB}
    limits |= {f"asking: all {_FULL} went on within, s": _APPROVED_S}
    found = {name: tally.gauges.get(name, 0.0) for name in limits}
    over = [f"{name} {found[name]:g}, not {most:g}" for name, most in limits.items() if found[name] > most]
    return "; ".join(over) or None


HARNESS = Harness(
    name="parked",
    title="ten thousand parked runs outlive the kill of their process",
    case=case,
    full=4,
    share=2,
    small=2,
    quotas={"asking": 2, "sleeping": 2},
    small_marks=_KINDS,
    checks=(_is_as_promised,),
)

if __name__ == "__main__":
    main(HARNESS)
