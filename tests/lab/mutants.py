"""Bugs are put into a copy of the code, one at a time, and the test that is named for each has to fail.

It is the proof that the rest of the lab sees anything. The tests run in the checkout, on the copy. A bug counts as
caught when its test ran, failed, and says what was expected of it; a test that cannot be collected catches nothing.

Cases: one for each bug, then one for each test that is named, which has to hold on the copy as it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.lab.bugs import BUGS, Bug, Cases, Node
from tests.lab.harness import Harness, Tally, Violation, main

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCE = ROOT / "src"
NAMED: tuple[Cases | Node, ...] = tuple(dict.fromkeys(bug.caught_by for bug in BUGS))
"""Everything that has to catch something."""
_LIMIT_S = 120.0
_TOLD = 1_500
_START = """
import os, runpy, sys
import osprotocol
copy, module, *arguments = sys.argv[1:]
if not osprotocol.__file__.startswith(copy + os.sep):
    sys.exit(f"{osprotocol.__file__} is not the copy in {copy}")
sys.path[0], sys.argv = os.getcwd(), [module, *arguments]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


@dataclass
class Outcome:
    """What came of running a test.

    Attributes:
        ran: how many tests or cases ran.
        failures: what those say that failed.
        problem: why there is no result; empty when there is one.
        hung: it did not end.
    """

    ran: int
    failures: list[str]
    problem: str = ""
    hung: bool = False


class Copy:
    """The package in a folder of its own, into which one bug at a time is put."""

    def __init__(self) -> None:
        shared = Path("/dev/shm")
        self._folder = Path(tempfile.mkdtemp(prefix="osp-lab-", dir=shared if shared.is_dir() else None))
        self.source = self._folder / "src"
        shutil.copytree(SOURCE, self.source, ignore=shutil.ignore_patterns("__pycache__"))

    @contextlib.contextmanager
    def broken(self, bug: Bug) -> Iterator[None]:
        """With the bug inside the block."""
        path = self.source / "osprotocol" / bug.file
        whole = path.read_text(encoding="utf-8")
        made = with_bug(whole, bug)
        path.write_text(made, encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(whole, encoding="utf-8")
            # Python takes compiled code for that of a file by size and second, which may be the same.
            for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
                compiled.unlink()

    def run(self, test: Cases | Node) -> Outcome:
        """Run a test on the copy, as it is now."""
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            out, said = Path(folder) / "result", Path(folder) / "said"
            command = [sys.executable, "-c", _START, str(self.source), *test.command(out)]
            with said.open("wb") as stream:
                process = subprocess.Popen(
                    command, cwd=ROOT, env=self._environment(Path(folder)), stdout=stream, stderr=stream,
                    start_new_session=True,
                )  # fmt: skip
                try:
                    code: int | None = process.wait(_LIMIT_S)
                except subprocess.TimeoutExpired:
                    code = None
                finally:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            told = said.read_text(encoding="utf-8", errors="replace")[-_TOLD:]
            return _outcome(test, code, out, told)

    def _environment(self, folder: Path) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "OSP_"))}
        paths = [str(self.source), *filter(None, [kept.get("PYTHONPATH")])]
        own = {
            "PYTHONPATH": os.pathsep.join(paths),
            "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis"),  # what fails here fails nowhere else
            "TMPDIR": str(folder),
        }
        return kept | own

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)


def with_bug(text: str, bug: Bug) -> str:
    """The text of a file with the bug in it.

    Raises:
        Violation: the place is not there, or there are several.
    """
    found = text.count(bug.old)
    if found != 1:
        raise Violation(f"bug {bug.name!r}: its old text is {found} times in {bug.file}; it has to be there once")
    return text.replace(bug.old, bug.new)


def _outcome(test: Cases | Node, code: int | None, out: Path, told: str) -> Outcome:
    if code is None:
        return Outcome(0, [], f"it did not end in {_LIMIT_S:g} s:\n{told}", hung=True)
    try:
        ran, failures = _of_cases(out) if isinstance(test, Cases) else _of_tests(out)
    except (OSError, ValueError, ElementTree.ParseError):
        return Outcome(0, [], f"it ended with {code} and left no result:\n{told}")
    if code != bool(failures):
        return Outcome(ran, failures, f"it ended with {code}:\n{told}")
    return Outcome(ran, failures)


def _of_cases(out: Path) -> tuple[int, list[str]]:
    share = json.loads(out.read_text(encoding="utf-8"))
    return share["cases"], [failure["what"] for failure in share["failures"]]


def _of_tests(out: Path) -> tuple[int, list[str]]:
    cases = list(ElementTree.parse(out).getroot().iter("testcase"))
    if not cases or any(case.find("error") is not None for case in cases):
        raise ValueError("something could not be collected or prepared")
    failed = [found for case in cases if (found := case.find("failure")) is not None]
    ran = sum(case.find("skipped") is None for case in cases)
    return ran, [f"{found.get('message')}\n{found.text}" for found in failed]


_copies: list[Copy] = []


def case(number: int, tally: Tally) -> None:
    """One bug, or one test on the code as it is."""
    if number < len(BUGS):
        _catch(BUGS[number], tally)
    else:
        _hold(NAMED[number - len(BUGS)], tally)


def _catch(bug: Bug, tally: Tally) -> None:
    copy = _copies[0]
    with copy.broken(bug):
        outcome = copy.run(bug.caught_by)
    tally.count("bugs")
    told = f"bug {bug.name!r} ({bug.kind}: {bug.suffers}) in {bug.file} and its test {bug.caught_by}"
    if outcome.hung and bug.hangs:
        tally.count("caught")
        tally.mark("caught by a hang")
        return
    if outcome.problem:
        raise Violation(f"{told}: {outcome.problem}")
    if not outcome.failures:
        raise Violation(f"{told}: it survives; {outcome.ran} tests or cases hold")
    if not any(re.search(bug.says, failure) for failure in outcome.failures):
        raise Violation(f"{told}: it fails, but does not say {bug.says!r}:\n{outcome.failures[0][-_TOLD:]}")
    tally.count("caught")
    tally.mark("caught by the lab" if isinstance(bug.caught_by, Cases) else "caught by a test")


def _hold(test: Cases | Node, tally: Tally) -> None:
    outcome = _copies[0].run(test)
    if outcome.problem or outcome.failures or not outcome.ran:
        what = outcome.problem or "\n".join(outcome.failures)[-_TOLD:] or "nothing ran"
        raise Violation(f"{test} does not hold on code without a bug: {what}")
    tally.count("tests that hold without a bug")


def _prepare(tally: Tally) -> None:
    _copies.append(Copy())


def _finish(tally: Tally) -> None:
    while _copies:
        _copies.pop().close()


def _all_caught(tally: Tally) -> str | None:
    caught, bugs = tally.counts["caught"], tally.counts["bugs"]
    return None if caught == bugs else f"{bugs - caught} of {bugs} bugs were not caught"


HARNESS = Harness(
    name="mutants",
    title="bugs made by hand are caught by the tests that are named",
    case=case,
    full=len(BUGS) + len(NAMED),
    small=2,
    share=16,
    quotas={"caught by the lab": 30},
    small_marks=("caught by the lab",),
    prepare=_prepare,
    finish=_finish,
    checks=(_all_caught,),
)

if __name__ == "__main__":
    main(HARNESS)
