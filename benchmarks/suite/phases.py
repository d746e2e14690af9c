"""One phase of one contender, in processes of its own."""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from suite.contenders import OURS, Contender
from suite.environments import clean_environment
from suite.places import BENCHMARKS

LIMIT_S = 150.0
STARTUP_SAMPLES = {"full": 5, "quick": 3}
FLEET_PHASES = ("fill_fleet", "restart_fleet")


class PhaseFailedError(Exception):
    """A contender's process ended with an error, or did not end in time."""


class Outcome(NamedTuple):
    """What a phase gave."""

    figures: dict[str, float]
    note: str | None
    environment: dict[str, str]


def run(contender: Contender, python: Path, phase: str, directory: Path, scale: str) -> Outcome:
    """Run one phase in a new directory; `restart_fleet` in the one that `fill_fleet` left.

    Raises:
        PhaseFailedError: It gave no figures.
    """
    variant = contender.fleet_variant if phase in FLEET_PHASES else contender.variant
    command = [str(python), contender.script, phase, str(directory), scale, variant]
    report = _json_of(command)
    note = report["notes"].get(phase)
    return Outcome(report["figures"], note, report.get("environment", {}))


def startup(contender: Contender, python: Path, directory: Path, scale: str) -> Outcome:
    """Import times in fresh interpreters, and from process start to the first result on a new file."""
    samples = STARTUP_SAMPLES[scale]
    figures = {"import_s": _import_s(python, contender.modules, samples)}
    if contender.name == OURS:
        figures["import_pydantic_s"] = _import_s(python, "pydantic", samples)
    times_s = []
    for _ in range(samples + 1):
        with tempfile.TemporaryDirectory(dir=directory) as new:
            command = [str(python), contender.script, "first_result", new, scale, contender.variant]
            times_s.append(_first_line_s(command))
    figures["process_to_first_result_s"] = statistics.median(times_s[1:])  # The first fills the file cache.
    return Outcome(figures, None, {})


def _json_of(command: list[str]) -> Any:
    try:
        ended = subprocess.run(
            command, cwd=BENCHMARKS, env=clean_environment(), capture_output=True, text=True, timeout=LIMIT_S
        )
    except subprocess.TimeoutExpired:
        raise PhaseFailedError(f"did not end within {LIMIT_S:.0f} s") from None
    if ended.returncode != 0:
        lines = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
        raise PhaseFailedError(lines[-1])
    return json.loads(ended.stdout.strip().splitlines()[-1])


def _import_s(python: Path, modules: str, samples: int) -> float:
    code = f"import time; b = time.perf_counter(); import {modules}; print(time.perf_counter() - b)"
    times_s = []
    for _ in range(samples + 1):
        ended = subprocess.run(
            [python, "-c", code], env=clean_environment(), capture_output=True, text=True, timeout=LIMIT_S
        )
        if ended.returncode != 0:
            raise PhaseFailedError(ended.stderr.strip().splitlines()[-1])
        times_s.append(float(ended.stdout))
    return statistics.median(times_s[1:])  # The first one may compile.


def _first_line_s(command: list[str]) -> float:
    began = time.perf_counter()
    with subprocess.Popen(
        command,
        cwd=BENCHMARKS,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        elapsed_s = time.perf_counter() - began
        _, errors = process.communicate(timeout=LIMIT_S)
    if not line:
        raise PhaseFailedError((errors.strip().splitlines() or ["no first result"])[-1])
    return elapsed_s
