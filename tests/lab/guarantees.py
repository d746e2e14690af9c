"""Which harness and which test holds which guarantee of docs/guarantees.md, and the figures of the last full run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent.parent
REPORT = _ROOT / "docs" / "lab-report.json"
"""What `make lab` wrote on the commit that it names; copied here from .lab/report.json."""

UNITS = {
    "simulation": "schedules",
    "power_loss": "disk images",
    "io_faults": "faults, at every call that a scenario makes",
    "forked_kills": "rounds of kills",
    "named_points": "cases of deaths at named points",
    "product_kills": "rounds of three strikes at whole servers",
    "histories": "histories",
    "real_histories": "histories of real processes",
    "permutations": "orders of completion",
    "golden": "replays of kept journals",
    "clock_cases": "clock changes in situations",
    "parked": "fleets",
    "contention": "crowds of eight processes",
    "migrations": "killed migrations and starts at once",
    "bit_rot": "flipped bits",
    "fuzz": "batches of hostile input",
    "api_fuzz": "rounds over the HTTP API",
    "soak": "soak",
    "mutants": "mutants",
}
"""What one case of a harness is, in the plural."""


_MOST_COUNTS = 8


@dataclass(frozen=True)
class Held:
    """What holds a guarantee.

    Attributes:
        harnesses: names of harnesses of the lab.
        tests: tests besides, as file::function below tests/.
    """

    harnesses: tuple[str, ...]
    tests: tuple[str, ...] = ()


HELD = {
    "G1": Held(
        ("power_loss", "forked_kills", "product_kills", "simulation", "histories"),
        ("crash/test_every_commit.py::test_a_death_at_any_commit_costs_no_result",),
    ),
    "G2": Held(
        ("power_loss", "forked_kills", "named_points", "simulation", "io_faults"),
        ("crash/test_every_commit.py::test_a_death_at_any_commit_costs_no_result",),
    ),
    "G3": Held(
        ("named_points", "simulation"),
        ("engine/test_late_results.py::test_an_interrupted_step_may_be_answered_with_an_action",),
    ),
    "G4": Held(
        ("simulation", "forked_kills"),
        (
            "processes/test_workers.py::test_what_an_evicted_worker_still_writes_is_refused",
            "processes/test_workers.py::test_the_result_of_a_run_from_an_evicted_worker_is_refused",
        ),
    ),
    "G5": Held(
        ("permutations", "golden"),
        ("engine/test_code_changed.py::test_a_mismatch_is_named_and_nothing_happens",),
    ),
    "G6": Held(("simulation", "named_points", "io_faults"), ("crash/test_state_machine.py::TestEngines",)),
    "G7": Held(
        ("histories", "real_histories", "simulation", "product_kills", "power_loss"),
        ("processes/test_terminal.py::test_votes_from_two_processes_have_one_outcome",),
    ),
    "G8": Held(
        ("histories", "simulation"),
        (
            "lifecycle/test_people.py::",
            "server/security/test_objects.py::",
        ),
    ),
    "G9": Held(
        ("histories", "clock_cases", "simulation"),
        ("processes/test_workers.py::test_a_request_of_a_frozen_worker_expires_in_time",),
    ),
    "G10": Held(("histories", "simulation", "product_kills")),
    "G11": Held(("clock_cases", "parked", "simulation")),
    "G12": Held(
        ("histories", "real_histories", "simulation"),
        ("processes/test_terminal.py::test_a_forced_cancel_fences_what_another_process_executes",),
    ),
    "G13": Held(
        ("simulation", "histories", "clock_cases"),
        ("engine/test_unusual_orders.py::test_a_run_paused_in_memory_goes_on_after_its_worker_died",),
    ),
    "G14": Held(
        ("product_kills", "simulation", "soak"),
        ("engine/test_unusual_orders.py::test_an_event_never_comes_before_the_state_that_it_made",),
    ),
    "G15": Held(
        ("bit_rot", "fuzz"),
        (
            "engine/test_trouble.py::test_a_run_with_a_damaged_journal_awaits_attention",
            "engine/test_trouble.py::test_other_runs_go_on_beside_a_damaged_one",
        ),
    ),
    "G16": Held(("io_faults",), ("lab/test_io_faults.py::test_a_real_disk_that_is_full",)),
    "G17": Held(
        ("migrations", "golden", "power_loss"),
        ("store/test_schema.py::test_a_newer_schema_is_refused",),
    ),
    "G18": Held(
        ("forked_kills",),
        ("processes/test_poison.py::test_a_run_that_kills_its_worker_is_parked_after_three_deaths",),
    ),
    "G19": Held(
        ("product_kills", "power_loss"),
        (
            "books/test_audit.py::test_what_cannot_be_committed_is_in_no_record",
            "books/test_audit.py::test_a_commit_of_unknown_outcome_is_one_record",
        ),
    ),
}


def report() -> dict[str, Any]:
    """The published report."""
    told: dict[str, Any] = json.loads(REPORT.read_text(encoding="utf-8"))
    return told


def held_by(name: str) -> str:
    """What holds a guarantee, as a list for the document."""
    known = report()["harnesses"]
    lines = [
        f"- [`{harness}`](#the-lab): {known[harness]['cases']:,} {UNITS[harness]}, "
        f"{len(known[harness]['failures']) or 'no'} violations"
        for harness in HELD[name].harnesses
    ]
    for test in HELD[name].tests:
        file, _, function = test.partition("::")
        lines.append(f"- `tests/{file}`" + (f": `{function}`" if function else ""))
    return "\n".join(lines) + "\n"


def figures() -> str:
    """The table of all harnesses.

    What is mended failed in that run, was mended, and held when the case was done again.
    """
    told = report()
    facts = told["facts"]
    lines = [
        f"Commit {facts['commit']}, {facts['date']}: {facts['minutes']:g} minutes on {facts['cores']} cores, "
        f"Python {facts['python']}, SQLite {facts['sqlite']}.",
        "",
        "| Harness | What it does | Cases | Failed | Mended | What it did |",
        "| --- | --- | --: | --: | --: | --- |",
    ]
    for name, one in told["harnesses"].items():
        done = ", ".join(f"{count:,} {what}" for what, count in list(one["counts"].items())[:_MOST_COUNTS])
        failed = len(one["failures"])
        mended = len(one.get("mended", ()))
        lines.append(f"| `{name}` | {one['title']} | {one['cases']:,} | {failed} | {mended} | {done} |")
    return "\n".join(lines) + "\n"
