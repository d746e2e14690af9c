"""Runs the whole lab and writes its report: ``python -m tests.lab`` (or ``make lab``).

The harnesses' cases are split into shares. Each share is a process; as many run at once as the machine has cores.
Simulation comes last and is what is shortened when the time is up, never below its floor.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from tests.lab.harness import Failure, Harness, Share, Tally
from tests.lab.report import Outcome, write_report

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = (
    "soak",
    "product_kills",
    "fuzz",
    "io_faults",
    "forked_kills",
    "power_loss",
    "histories",
    "real_histories",
    "named_points",
    "api_fuzz",
    "contention",
    "parked",
    "permutations",
    "golden",
    "clock_cases",
    "migrations",
    "bit_rot",
    "mutants",
    "simulation",
)
"""Every harness, in the order in which they begin: the long ones first, and last what can be shortened."""
_SHARE_LIMIT_S = 3_000
_INTERRUPTS, _CLEANUP_S = 5, 2.0


def load(name: str) -> Harness:
    """The harness of a module."""
    harness: Harness = importlib.import_module(f"tests.lab.{name}").HARNESS
    return harness


class Lab:
    """All shares of all harnesses, and the lanes that do them.

    Args:
        harnesses: what to run.
        scale: what part of the full size; less than 1 to try the lab itself.
        first: number of the first case of every harness.
        minutes: after which no further share begins.
    """

    def __init__(self, harnesses: list[Harness], scale: float, first: int, minutes: float) -> None:
        self._first = first
        self._ends_at = time.monotonic() + minutes * 60
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._over = threading.Event()
        self._folder = Path(tempfile.mkdtemp(prefix="osp-lab-"))
        self.outcomes = {harness.name: Outcome(harness, max(1, round(harness.full * scale))) for harness in harnesses}
        self._waiting: deque[tuple[Harness, int, int]] = deque()
        self._beside: deque[tuple[Harness, int, int]] = deque()
        for harness in harnesses:
            cases = self.outcomes[harness.name].planned
            size = harness.share or cases
            for begin in range(0, cases, size):
                lane = self._beside if harness.beside else self._waiting
                lane.append((harness, first + begin, min(size, cases - begin)))

    def run(self, lanes: int) -> None:
        """Do everything."""
        queues = [self._waiting] * lanes + ([self._beside] if self._beside else [])
        try:
            with ThreadPoolExecutor(len(queues)) as pool:
                working = [pool.submit(self._work, queue) for queue in queues]
                try:
                    for lane in working:
                        lane.result()
                except KeyboardInterrupt:
                    self._interrupt()
                    raise
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _interrupt(self) -> None:
        """Begin nothing more, and let what runs clean up behind itself; code under test may swallow the first time."""
        self._over.set()
        for _ in range(_INTERRUPTS):
            with self._lock:
                for process in self._running:
                    process.send_signal(signal.SIGINT)  # a terminal has told them, a `kill -INT` has not
            ends_at = time.monotonic() + _CLEANUP_S
            while self._running and time.monotonic() < ends_at:
                time.sleep(0.05)
        with self._lock:
            for process in self._running:
                process.kill()

    def _work(self, queue: deque[tuple[Harness, int, int]]) -> None:
        while True:
            with self._lock:
                if not queue or self._over.is_set():
                    return
                harness, first, count = queue.popleft()
                if time.monotonic() > self._ends_at:
                    self.outcomes[harness.name].left_out += count
                    continue
            share = self._do(harness, first, count)
            with self._lock:
                if self._over.is_set():
                    return
                self.outcomes[harness.name].add(share)
                self._tell(share)

    def _do(self, harness: Harness, first: int, count: int) -> Share:
        out = self._folder / f"{harness.name}-{first}.json"
        command = [sys.executable, "-m", f"tests.lab.{harness.name}"]
        command += ["--first", str(first), "--count", str(count), "--out", str(out)]
        began = time.monotonic()
        log = out.with_suffix(".log")
        with log.open("w") as said:
            process = self._begin(command, said)
            try:
                problem = f"the process ended with {process.wait(_SHARE_LIMIT_S)} and without a result"
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                problem = f"the process did not end in {_SHARE_LIMIT_S} s"
            finally:
                with self._lock:
                    self._running.discard(process)
        try:
            return _share_of(json.loads(out.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            tail = log.read_text(encoding="utf-8", errors="replace")[-2_000:]
            failure = Failure(first, f"{problem}:\n{tail}", " ".join(command[:-2]))
            return Share(harness.name, first, 0, time.monotonic() - began, Tally(), [failure])

    def _begin(self, command: list[str], said: IO[str]) -> subprocess.Popen[bytes]:
        with self._lock:
            process = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said)
            self._running.add(process)
            if self._over.is_set():
                process.send_signal(signal.SIGINT)
            return process

    def _tell(self, share: Share) -> None:
        outcome = self.outcomes[share.harness]
        state = "held" if not share.failures else f"{len(share.failures)} FAILED"
        print(f"{share.harness:14} {outcome.cases:>9,} of {outcome.planned:>9,} cases, {share.seconds:6.0f} s: {state}")
        for failure in share.failures:
            print(f"  case {failure.case}: {failure.what.strip().splitlines()[-1]}\n  {failure.replay}")
        sys.stdout.flush()


def _share_of(told: dict[str, Any]) -> Share:
    tally = Tally()
    tally.counts.update(told["tally"]["counts"])
    tally.marks.update(told["tally"]["marks"])
    tally.gauges.update(told["tally"]["gauges"])
    failures = [Failure(**failure) for failure in told["failures"]]
    return Share(told["harness"], told["first"], told["cases"], told["seconds"], tally, failures)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="*", choices=NAMES, default=list(NAMES), help="these harnesses")
    parser.add_argument("--scale", type=float, default=1.0, help="what part of the full size (1)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case of each harness (0)")
    parser.add_argument("--minutes", type=float, default=85, help="after which no further share begins (85)")
    parser.add_argument("--lanes", type=int, default=os.cpu_count() or 1, help="processes at once (one a core)")
    parser.add_argument("--out", type=Path, default=ROOT / ".lab", help="folder of the report (.lab)")
    options = parser.parse_args()
    if not options.only or options.lanes < 1 or options.scale <= 0 or options.first < 0 or options.minutes <= 0:
        parser.error("--only needs a name; --lanes, --scale and --minutes have to be above 0, --first not below")
    options.out.mkdir(parents=True, exist_ok=True)  # not found out after 90 minutes
    began = time.monotonic()
    lab = Lab([load(name) for name in options.only], options.scale, options.first, options.minutes)
    try:
        lab.run(options.lanes)
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; no report was written")
    wrong = write_report(options.out, list(lab.outcomes.values()), time.monotonic() - began, options.scale)
    print(f"\n{options.out / 'report.md'}: {'all held' if not wrong else f'{len(wrong)} problems'}")
    for line in wrong:
        print(f"- {line}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
