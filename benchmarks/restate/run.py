"""Measure one-step runs on bare Restate and on osprotocol's Restate engine, in turns, on one node; print tables.

python benchmarks/restate/run.py [--rounds 3] [--quick] [--only NAME,...] [--json FILE] [--dir DIRECTORY]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
sys.path[:0] = [str(CHECKOUT), str(HERE.parent)]

from suite import machine  # noqa: E402

from osprotocol._restate.admin import Admin  # noqa: E402
from osprotocol.errors import EngineError  # noqa: E402
from tests.restate.nodes import Port, RestateNode  # noqa: E402

DATA = CHECKOUT / ".bench"
OSP = str(Path(sys.executable).with_name("osp"))
PATIENCE_S = 60.0
CLIENT_S = 300.0
# What the tests save memory with is no default: these are the server's own.
DEFAULTS = {
    "RESTATE_DEFAULT_NUM_PARTITIONS": "24",
    "RESTATE_ROCKSDB_TOTAL_MEMORY_SIZE": "2.0GiB",
    "RESTATE_BIFROST__RECORD_CACHE_MEMORY_SIZE": "250.0MiB",
}
FIGURES = ("p50, ms", "p90, ms", "p99, ms", "runs/s, 100 at once")
BARE, OURS = "bare", ("apart", "together", "three")
TARGETS = {"p50, ms": "at most 2", "runs/s, 100 at once": "at least 0.5"}


class Place(NamedTuple):
    """Where one contender works in one round: the node, and a folder and a namespace that nobody used before."""

    node: RestateNode
    folder: Path
    namespace: str
    scale: str

    def url(self, copy: str) -> str:
        """What a member with a copy of its own connects to."""
        return f"{self.node.url(self.namespace)}&replica={self.folder / copy}.db"


def bare(place: Place) -> dict[str, Any]:
    """A worker and a client, each a process, with Restate's SDK alone."""
    port = Port()
    with _process(place, "worker", sys.executable, str(HERE / "bare.py"), "worker", str(port.number)):
        _until(lambda: _registered(place.node, port.url), "the bare worker takes no calls")
        try:
            return _client(place, str(HERE / "bare.py"), "client", place.node.ingress, place.scale)
        finally:
            port.release()


def together(place: Place) -> dict[str, Any]:
    """One process that starts runs and works on them."""
    return _client(place, str(HERE / "ours.py"), place.url("both"), place.scale, "worker")


def apart(place: Place, workers: int = 1) -> dict[str, Any]:
    """A client and workers, each a process with a copy of its own, as on machines of their own."""
    with contextlib.ExitStack() as stack:
        for number in range(workers):
            name = f"worker-{number}"
            stack.enter_context(_process(place, name, OSP, "--url", place.url(name), "worker", str(HERE / "ours.py")))
            _until(lambda: "stops" in _printed(place, name), f"{name} does not work")  # noqa: B023 - called now
        return _client(place, str(HERE / "ours.py"), place.url("client"), place.scale)


def three(place: Place) -> dict[str, Any]:
    """Three workers that contend for the runs of one client."""
    return apart(place, 3)


CONTENDERS: dict[str, Callable[[Place], dict[str, Any]]] = {
    BARE: bare,
    "apart": apart,
    "together": together,
    "three": three,
}


@contextlib.contextmanager
def _process(place: Place, name: str, *command: str) -> Iterator[None]:
    """A process that ends with SIGTERM, or else is killed."""
    with (place.folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=place.folder)
    try:
        yield
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended by itself:\n{_printed(place, name)}")
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _client(place: Place, *command: str) -> dict[str, Any]:
    answer = subprocess.run(
        [sys.executable, *command], stdout=subprocess.PIPE, cwd=place.folder, timeout=CLIENT_S, check=True, text=True
    )
    values: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return values


def _printed(place: Place, name: str) -> str:
    return (place.folder / f"{name}.log").read_text(errors="replace")


def _registered(node: RestateNode, uri: str) -> bool:
    admin = Admin(node.admins)
    try:
        admin.register(uri)
    except EngineError:
        return False
    finally:
        admin.close()
    return True


def _until(holds: Callable[[], bool], complaint: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > end:
            raise RuntimeError(complaint)
        time.sleep(0.05)


def figures_of(values: dict[str, Any]) -> dict[str, float]:
    """What one client process measured."""
    cuts = statistics.quantiles(values["latencies_ms"], n=100)
    rate = values["runs"] / values["elapsed_s"]
    return dict(zip(FIGURES, (cuts[49], cuts[89], cuts[98], rate), strict=True))


def report(rounds: dict[str, list[dict[str, float]]], names: Sequence[str]) -> str:
    """Medians of the rounds, and what multiple of bare they are."""
    medians = {
        name: {figure: statistics.median(one[figure] for one in rounds[name]) for figure in FIGURES} for name in names
    }
    lines = [_row("median of the rounds", names), _rule(len(names))]
    lines += [_row(figure, [f"{medians[name][figure]:.3g}" for name in names]) for figure in FIGURES]
    if BARE in names:
        ours = [name for name in names if name != BARE]
        lines += ["", _row("multiple of bare", [*ours, "target"]), _rule(len(ours) + 1)]
        for figure in FIGURES:
            ratios = [f"{medians[name][figure] / medians[BARE][figure]:.2f}" for name in ours]
            lines.append(_row(figure, [*ratios, TARGETS.get(figure, "")]))
    return "\n".join(lines)


def _row(head: str, cells: Sequence[str]) -> str:
    return "| " + " | ".join((head.ljust(20), *(cell.rjust(12) for cell in cells))) + " |"


def _rule(columns: int) -> str:
    return "| " + " | ".join(("-" * 20, *["-" * 11 + ":"] * columns)) + " |"


def main() -> int:
    """Run the rounds and print."""
    parser = argparse.ArgumentParser(description="Measure bare Restate and osprotocol on it, in turns.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="shorter loops")
    parser.add_argument("--only", default=list(CONTENDERS), type=lambda text: text.split(","), metavar="NAME,...")
    parser.add_argument("--json", type=Path, default=DATA / "restate.json", help="all values")
    parser.add_argument("--dir", type=Path, default=DATA, help="where Restate and the copies write, on a disk")
    options = parser.parse_args()
    options.dir.mkdir(parents=True, exist_ok=True)
    scale = "quick" if options.quick else "full"
    began = datetime.now(UTC)
    facts = {"began": began.isoformat(timespec="seconds"), "scale": scale, **machine.describe(options.dir)}
    names: list[str] = options.only
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with (
        tempfile.TemporaryDirectory(prefix="restate-", dir=options.dir.resolve()) as folder,
        RestateNode(Path(folder) / "node", settings=DEFAULTS) as node,
    ):
        for number in range(options.rounds):
            first = number % len(names)
            for name in (*names[first:], *names[:first]):
                place = Place(node, Path(folder) / f"{name}-{number}", f"{name}-{number}", scale)
                place.folder.mkdir()
                figures = figures_of(CONTENDERS[name](place))
                rounds[name].append(figures)
                told = ", ".join(f"{figure} {value:.4g}" for figure, value in figures.items())
                load = f"load {os.getloadavg()[0]:.1f}"
                print(f"round {number + 1} {name}: {told}; {load}", file=sys.stderr, flush=True)
    print("\n".join(f"- {name}: {fact}" for name, fact in facts.items()), "", report(rounds, names), sep="\n")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"facts": facts, "rounds": rounds}, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
