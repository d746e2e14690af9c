"""Where the bars of a waterfall lie."""

from __future__ import annotations

from datetime import timedelta

import pytest

from osprotocol.server.console.timeline import Timeline
from osprotocol.server.console.waterfall import Scale, idle_stretches, waterfall
from tests.server.console.test_timeline import BEGUN, START, at, event, timeline


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def steps(number: int) -> Timeline:
    return timeline(
        *BEGUN,
        *(
            event(n + 3, "step.completed", n + 2, key=str(n + 1), name=f"s{n}", startedAt=at(n + 1))
            for n in range(number)
        ),
    )


def waiting() -> Timeline:
    """Two seconds of work, an hour of waiting, two seconds of work."""
    return timeline(
        *BEGUN,
        event(3, "step.completed", 3, key="1", name="a", startedAt=at(1)),
        event(4, "request.opened", 3, key="2", name="approval", requestId="r-4", kind="approval", status="awaiting"),
        event(5, "request.closed", 3603, key="2", requestId="r-4", outcome="approved", status="in-progress"),
        event(6, "step.completed", 3605, key="3", name="b", startedAt=at(3603)),
        event(7, "run.completed", 3605, status="completed"),
    )


def test_a_straight_scale_is_linear() -> None:
    """From 0 to 100 per cent."""
    scale = Scale(START, START + seconds(10))
    assert [scale.at(START + seconds(at)) for at in (0, 2.5, 10)] == [0, 25, 100]


def test_what_is_outside_lies_at_the_border() -> None:
    """Nothing is drawn beyond the picture."""
    scale = Scale(START, START + seconds(10))
    assert (scale.at(START - seconds(5)), scale.at(START + seconds(50))) == (0, 100)


def test_folds_keep_the_order_of_time() -> None:
    """A later instant never lies left of an earlier one."""
    scale = Scale(
        START,
        START + seconds(100),
        [(START + seconds(10), START + seconds(50)), (START + seconds(60), START + seconds(99))],
    )
    places = [scale.at(START + seconds(second)) for second in range(101)]
    assert places == sorted(places)
    assert (places[0], places[100]) == (0, 100)


def test_long_waits_are_cut_short() -> None:
    """So that the work around them can be seen."""
    rows = waterfall(waiting(), START).rows
    assert [row.bar.name for row in rows][::2] == ["a", "b"]
    assert rows[0].pieces[0].width > 20
    assert rows[1].pieces[0].width < 20


def test_true_lengths_are_one_choice_away() -> None:
    """Unfolded, an hour takes nearly all of the width."""
    picture = waterfall(waiting(), START, folded=False)
    assert picture.rows[1].pieces[0].width > 99
    assert picture.can_fold
    assert not picture.folds


def test_milliseconds_of_work_are_not_drawn_as_wide_as_minutes() -> None:
    """A run that only waits shows true lengths, unless somebody asks for cut ones."""
    made = timeline(
        event(1, "run.started", 0, status="pending"),
        event(2, "run.claimed", 0.01, status="in-progress", attempt=1),
        event(3, "step.completed", 0.02, key="1", name="a", startedAt=at(0.01)),
        event(4, "request.opened", 0.02, key="2", name="approval", requestId="r-4", kind="approval", status="awaiting"),
    )
    plain, cut = (waterfall(made, START + seconds(901), folded=folded) for folded in (None, True))
    assert (plain.folds, plain.can_fold) == ((), True)
    assert plain.rows[0].pieces[0].width < 1
    assert len(cut.folds) == 1


def test_no_bar_is_too_thin_to_be_seen() -> None:
    """And none reaches beyond the right border."""
    for row in waterfall(waiting(), START, folded=False).rows:
        for piece in row.pieces:
            assert piece.width >= 0.3
            assert piece.right <= 100.001


def test_without_waits_nothing_is_folded() -> None:
    """There is nothing to cut."""
    made = steps(5)
    assert idle_stretches(made, START, START + seconds(6)) == []


@pytest.mark.parametrize(("page", "first", "last"), [(1, 1, 100), (3, 201, 250), (99, 201, 250)])
def test_pages_hold_every_row_once(page: int, first: int, last: int) -> None:
    """A page that does not exist is the last one."""
    picture = waterfall(steps(250), START + seconds(300), page=page)
    assert (picture.first, picture.last, picture.total, picture.pages) == (first, last, 250, 3)


def test_a_living_run_shows_its_newest_rows() -> None:
    """Without a page asked for."""
    assert waterfall(steps(250), START + seconds(300)).page == 3


def test_a_selected_row_is_on_the_page() -> None:
    """Whichever page that is."""
    made = steps(250)
    picture = waterfall(made, START + seconds(300), selected=made.find("120"))
    assert picture.page == 2
    assert any(row.bar.key == "120" for row in picture.rows)


def test_a_page_fills_the_width_with_its_part_of_the_time() -> None:
    """The first bar begins at the left, the last one ends at the right."""
    rows = waterfall(steps(250), START + seconds(300), page=2).rows
    assert rows[0].pieces[0].left == 0
    assert rows[-1].pieces[0].right == pytest.approx(100, abs=0.5)


def test_5000_steps_need_one_page_of_rows() -> None:
    """The page says how many there are in all."""
    picture = waterfall(steps(5_000), START + seconds(6_000), page=1)
    assert (len(picture.rows), picture.total) == (100, 5_000)


def test_a_run_without_events_has_a_picture() -> None:
    """An empty one."""
    picture = waterfall(Timeline(), START)
    assert (picture.rows, picture.total, picture.pages) == ((), 0, 1)


def test_pauses_are_bands_with_words() -> None:
    """Who paused, and for how long."""
    made = timeline(*BEGUN, event(3, "run.paused", 4, by="ada"), event(4, "run.resumed", 8))
    (pause,) = waterfall(made, START + seconds(10), folded=False).pauses
    assert (pause.left, pause.right, pause.words) == (40, 80, "Paused by ada for 4.0 s")
