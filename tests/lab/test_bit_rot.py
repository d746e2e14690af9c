"""The small share of the bit flips, and the flips that were once got wrong."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from osprotocol._ids import Ids
from tests.crash.clock import START_US, ManualClock
from tests.crash.life import Life
from tests.lab.bit_rot import HARNESS, REGRESSIONS, image, read_rows
from tests.lab.harness import Tally, check_small
from tests.lab.memory_disk import folder_in_memory


def test_small_share() -> None:
    """No run goes on with a damaged journal, and none stands still for another's damage."""
    check_small(HARNESS)


@pytest.mark.parametrize("number", REGRESSIONS)
def test_a_flip_that_was_once_got_wrong(number: int) -> None:
    """It is found, and costs no neighbour anything."""
    HARNESS.case(number, Tally())


def test_a_changed_value_is_seen_by_the_oracle() -> None:
    """What is compared with the engine does not depend on the engine."""
    whole = image()
    with folder_in_memory() as folder:
        path = folder / "runs.db"
        path.write_bytes(whole.data.replace(b"run 5, part 1", b"run 5, part 3"))
        run_id = whole.runs[5]
        assert read_rows(path, run_id).journal != whole.rows[run_id].journal
        assert read_rows(path, whole.runs[6]) == whole.rows[whole.runs[6]]


def test_a_timer_of_a_damaged_run_keeps_no_other_from_firing(tmp_path: Path) -> None:
    """All are due at once, and a text in the journal of one of them is none."""
    whole = image()
    place = whole.data.index(b"run 13, part 1")
    path = tmp_path / "runs.db"
    path.write_bytes(whole.data[:place] + b"\xff" + whole.data[place + 1 :])
    path.chmod(0o600)

    async def live() -> None:
        life = Life(path, ManualClock(START_US + 25 * 3_600_000_000), linger_ms=0, ids=Ids(4))
        await life.client.open()
        await life.settle()
        runs = {number: await life.client.get(whole.runs[number]) for number in (12, 13, 14, 15)}
        assert {number for number, run in runs.items() if run.status == "completed"} == {12, 14, 15}
        assert [request.payload for request in runs[13].requests] == [{"reason": "damaged"}]
        await life.close()

    asyncio.run(live())
