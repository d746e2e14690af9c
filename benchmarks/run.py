"""Measure the floor, osprotocol and its peers in one run, and print one table.

python benchmarks/run.py [--quick] [--only NAME,...] [--phases NAME,...] [--rounds N] [--json FILE]
                         [--dir DIRECTORY] [--write-readme]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from suite import environments, machine, readme, report, rounds
from suite.contenders import CONTENDERS, Contender, chosen
from suite.figures import PHASES
from suite.places import DATA, README, WORK
from suite.results import Results

ROUNDS = {"full": 3, "quick": 1}


def main() -> int:
    """Run the benchmark; 1 if a phase of any contender failed."""
    options = _options()
    scale = "quick" if options.quick else "full"
    data: Path = options.dir
    data.mkdir(parents=True, exist_ok=True)
    if machine.file_system(data) in machine.MEMORY_ONLY:
        print(
            f"{data} is in memory only, where a sync costs nothing: name a directory on a disk",
            file=sys.stderr,
        )
        return 2
    contenders: list[Contender] = options.only
    pythons = {name: environments.ensure(name) for name in dict.fromkeys(c.environment for c in contenders)}
    began = datetime.now(UTC)
    facts = {"began": began.isoformat(timespec="seconds"), "scale": scale, **machine.describe(data)}
    results = Results()
    count: int = options.rounds or ROUNDS[scale]
    rounds.work(list(rounds.plan(contenders, options.phases, count)), pythons, data, scale, results)
    facts["took"] = f"{(datetime.now(UTC) - began).total_seconds():.0f} s, {count} round{'s' if count > 1 else ''}"
    text = _text(facts, results, [contender.name for contender in contenders])
    print(text)
    file: Path = options.json
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"facts": facts, **results.as_json()}, indent=2) + "\n", encoding="utf-8")
    if options.write_readme:
        readme.replace_results(README, text)
    return 1 if results.failures else 0


def _text(facts: dict[str, str], results: Results, contenders: Sequence[str]) -> str:
    lines = [f"- {name}: {fact}" for name, fact in facts.items()]
    for contender, versions in results.environments.items():
        lines.append(f"- {contender}: {', '.join(f'{name} {version}' for name, version in versions.items())}")
    parts = ["\n".join(lines), report.tables(results.medians(), contenders)]
    for title, by_contender in (("Cannot", results.notes), ("FAILED", results.failures)):
        parts += [
            f"{title}: {contender}, {phase}: {text}"
            for contender, by_phase in by_contender.items()
            for phase, text in by_phase.items()
        ]
    return "\n\n".join(parts)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the floor, osprotocol and its peers in one run.")
    names = ", ".join(contender.name for contender in CONTENDERS)
    parser.add_argument("--quick", action="store_true", help="one short round, under three minutes")
    parser.add_argument("--only", default=[], type=_contenders, metavar="NAME,...", help=f"of {names}")
    parser.add_argument("--phases", default=list(PHASES), type=_phases, metavar="NAME,...", help=", ".join(PHASES))
    parser.add_argument("--rounds", type=int, metavar="N", help="3, or 1 with --quick")
    parser.add_argument("--json", type=Path, default=WORK / "results.json", metavar="FILE", help="all values")
    parser.add_argument("--dir", type=Path, default=DATA, metavar="DIRECTORY", help="where the files are, on a disk")
    parser.add_argument("--write-readme", action="store_true", help="put the tables into README.md")
    options = parser.parse_args()
    options.only = options.only or list(CONTENDERS)
    return options


def _contenders(text: str) -> list[Contender]:
    try:
        return chosen(text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _phases(text: str) -> list[str]:
    names = text.split(",")
    unknown = sorted(set(names) - set(PHASES))
    if unknown:
        raise argparse.ArgumentTypeError(f"no phase is called {', '.join(unknown)}")
    return [phase for phase in PHASES if phase in names]


if __name__ == "__main__":
    sys.exit(main())
