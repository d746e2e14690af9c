"""One virtual environment per contender, made once and again when its pinned versions change."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

from suite.contenders import OUR_ENVIRONMENT
from suite.places import BENCHMARKS, CHECKOUT, ENVIRONMENTS

CONSTRAINTS = CHECKOUT / "constraints.txt"


def ensure(name: str) -> Path:
    """The Python of the environment of that name, which holds exactly what is pinned for it.

    Raises:
        subprocess.CalledProcessError: pip could not install it.
    """
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    arguments, sources = _what_to_install(name)
    fingerprint = hashlib.sha256(sys.version.encode() + b"".join(s.read_bytes() for s in sources)).hexdigest()
    stamp = folder / "installed"
    if not (stamp.exists() and stamp.read_text() == fingerprint and python.exists()):
        print(f"installing the environment of {name}", file=sys.stderr, flush=True)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run(
            [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *arguments],
            check=True,
            stdout=sys.stderr,
            env=clean_environment(),
        )
        stamp.write_text(fingerprint)
    return python


def clean_environment() -> dict[str, str]:
    """This process's variables without those that would change what a contender does."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("OSP_", "DBOS", "LANG"))}
    variables.pop("PYTHONPATH", None)
    variables.pop("VIRTUAL_ENV", None)
    return variables


def _what_to_install(name: str) -> tuple[list[str], list[Path]]:
    if name != OUR_ENVIRONMENT:
        requirements = BENCHMARKS / f"requirements-{name}.txt"
        return ["-r", str(requirements)], [requirements]
    arguments = ["-e", str(CHECKOUT)]
    sources = [CHECKOUT / "pyproject.toml"]
    if CONSTRAINTS.exists():
        arguments += ["-c", str(CONSTRAINTS)]
        sources.append(CONSTRAINTS)
    return arguments, sources
