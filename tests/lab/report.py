"""The lab's report: what was done, what it reached, what did not hold."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw

from tests.lab.harness import Failure, Harness, Share, Tally

_ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass
class Outcome:
    """What came of all shares of a harness.

    Attributes:
        planned: how many cases there are to do.
        cases: how many were done.
        left_out: how many were not, because the time was up.
        seconds: of all its processes together.
    """

    harness: Harness
    planned: int
    cases: int = 0
    left_out: int = 0
    seconds: float = 0.0
    tally: Tally = field(default_factory=Tally)
    failures: list[Failure] = field(default_factory=list)

    def add(self, share: Share) -> None:
        """Add what one process did."""
        self.cases += share.cases
        self.seconds += share.seconds
        self.tally.add(share.tally)
        self.failures += share.failures

    def problems(self, *, is_full: bool) -> list[str]:
        """What is wrong with it, in sentences."""
        name = self.harness.name
        wrong = [f"{name} case {one.case}: {one.what.strip().splitlines()[-1]} ({one.replay})" for one in self.failures]
        if not is_full:
            return wrong
        if self.cases < self.planned:
            wrong.append(f"{name}: {self.cases:,} of {self.planned:,} cases done")
        for mark, quota in self.harness.quotas.items():
            if self.tally.marks[mark] < quota:
                wrong.append(f"{name}: {mark!r} was reached {self.tally.marks[mark]:,} times, {quota:,} are needed")
        wrong += [f"{name}: {said}" for check in self.harness.checks if (said := check(self.tally)) is not None]
        return wrong


def write_report(folder: Path, outcomes: list[Outcome], seconds: float, scale: float) -> list[str]:
    """Write report.md and report.json; gives what is wrong.

    What an earlier report in that folder says of other harnesses is kept, each with the commit that it is of.
    """
    file = folder / "report.json"
    facts = _facts(seconds, scale)
    known = json.loads(file.read_text(encoding="utf-8"))["harnesses"] if file.exists() else {}
    known |= {one.harness.name: _outcome_json(one, facts, is_full=scale >= 1) for one in outcomes}
    folder.mkdir(exist_ok=True)
    told = {"facts": facts, "harnesses": known}
    file.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    (folder / "report.md").write_text("\n".join(_markdown(told)) + "\n", encoding="utf-8")
    return [problem for outcome in outcomes for problem in outcome.problems(is_full=scale >= 1)]


def _facts(seconds: float, scale: float) -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=_ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "commit": commit,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "minutes": round(seconds / 60, 1),
        "scale": scale,
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "cores": os.cpu_count(),
        "system": platform.system(),
    }


def _outcome_json(outcome: Outcome, facts: dict[str, Any], *, is_full: bool) -> dict[str, Any]:
    return {
        "title": outcome.harness.title,
        "commit": facts["commit"],
        "cases": outcome.cases,
        "planned": outcome.planned,
        "seconds": round(outcome.seconds),
        "problems": outcome.problems(is_full=is_full),
        "counts": dict(sorted(outcome.tally.counts.items())),
        "marks": dict(sorted(outcome.tally.marks.items())),
        "quotas": dict(sorted(outcome.harness.quotas.items())),
        "gauges": {name: round(value, 4) for name, value in sorted(outcome.tally.gauges.items())},
        "failures": [{"case": one.case, "what": one.what, "replay": one.replay} for one in outcome.failures],
    }


def _markdown(told: dict[str, Any]) -> list[str]:
    harnesses: dict[str, Any] = told["harnesses"]
    wrong = [problem for one in harnesses.values() for problem in one["problems"]]
    lines = ["# Report of the reliability lab", ""]
    lines += [", ".join(f"{name} {value}" for name, value in told["facts"].items()), ""]
    lines += [f"**{len(wrong)} problems.**" if wrong else "**Everything held.**", ""]
    lines += [f"- {problem}" for problem in wrong]
    lines += ["", "| Harness | Commit | Cases | Seconds | Failed |", "| --- | --- | --: | --: | --: |"]
    for name, one in harnesses.items():
        cells = f"{one['commit']} | {one['cases']:,} | {one['seconds']:,} | {len(one['failures'])}"
        lines.append(f"| {one['title']} (`{name}`) | {cells} |")
    for name, one in harnesses.items():
        lines += _section(name, one)
    return lines


def _section(name: str, one: dict[str, Any]) -> list[str]:
    lines = ["", f"## {one['title']}", ""]
    lines += [f"Any case again: `.venv/bin/python -m tests.lab.{name} --first NUMBER --count 1`", ""]
    lines += [f"- {what}: {value:,}" for what, value in one["counts"].items()]
    lines += [f"- {what}: {value:,.4g}" for what, value in one["gauges"].items()]
    for mark, times in one["marks"].items():
        quota = one["quotas"].get(mark)
        lines.append(f"- reached: {mark}: {times:,}" + (f" (at least {quota:,} needed)" if quota else ""))
    for failure in one["failures"]:
        lines += ["", f"### Case {failure['case']} failed", "", "```text", failure["what"].strip(), "```", ""]
        lines += [f"`{failure['replay']}`"]
    return lines
