"""The named points: the small share, and what the table and the images of a death have to be."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from osprotocol._embedded.store import Store
from tests.crash.scenarios import SCENARIOS
from tests.lab import points
from tests.lab.harness import Violation, check_small
from tests.lab.named_points import HARNESS, Album, Scene


def test_a_death_at_each_named_point_costs_no_result() -> None:
    """Each point of each scenario once, and again in the recovery; the next process brings the run to its end."""
    check_small(HARNESS)


def test_every_point_is_a_call_of_ours() -> None:
    """The table names calls that there are, each once."""
    assert len(set(points.POINTS)) == len(points.POINTS) == 2 * len(points.CALLS)
    assert all(callable(inspect.getattr_static(call.place, call.attribute)) for call in points.CALLS)


def test_watching_ends_with_the_block() -> None:
    """Nothing of the real classes stays wrapped."""
    before = Store.commit
    with points.watched(lambda point, arguments: None):
        assert Store.commit is not before
    assert Store.commit is before


def test_an_image_has_what_was_committed_when_it_was_taken(tmp_path: Path) -> None:
    """A life leaves different images, from a new database to an ended run."""
    album = Album()
    scene = Scene(tmp_path / "life", SCENARIOS[0], 0)
    scene.album = album
    scene.live_on(0, "the first")
    assert album.images[0].memory.effects.total() == 0
    assert album.images[-1].memory.effects == scene.memory.effects
    assert album.instants == len(album.images) > 10
    assert sum(len(image.points) for image in album.images) == album.reached.total()


def test_a_word_that_is_not_kept_is_found(tmp_path: Path) -> None:
    """An image whose callers were told of a run that it does not have is a violation."""
    album = Album()
    scene = Scene(tmp_path / "life", SCENARIOS[0], 0)
    scene.album = album
    scene.live_on(0, "the first")
    image = album.images[-1]
    image.memory.told.append(("ended", "0000000000000000000a", "completed"))
    with pytest.raises(Violation, match="there is no such run"):
        Scene(tmp_path / "next", SCENARIOS[0], 0, image).live_on(1, "the second")
