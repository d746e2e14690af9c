"""The error tree: what programs and people can rely on."""

from __future__ import annotations

import copy
import pickle
import re

import pytest

from osprotocol import errors
from osprotocol.errors import EngineError, OSProtocolError, RequestError, RunError, TerminalError, UsageError
from tests.wire.error_samples import RUN, SAMPLES, all_errors

NAMES = [type(sample).__name__ for sample in SAMPLES]


def test_every_class_has_an_example_here() -> None:
    """A new class has to be added to the samples, and so to the tests and the documents."""
    assert [type(sample) for sample in SAMPLES] == all_errors() or set(map(type, SAMPLES)) == set(all_errors())


def test_every_code_is_unique() -> None:
    """A program can tell the errors apart by their code."""
    codes = [found.code for found in all_errors()]
    assert sorted(codes) == sorted(set(codes))


@pytest.mark.parametrize("found", all_errors(), ids=lambda found: found.__name__)
def test_every_class_defines_its_own_code(found: type[OSProtocolError]) -> None:
    """In kebab-case, by itself: an inherited code would be its parent's."""
    assert "code" in vars(found)
    assert re.fullmatch("[a-z]+(-[a-z]+)*", found.code)


@pytest.mark.parametrize("found", all_errors(), ids=lambda found: found.__name__)
def test_every_http_status_is_one_of_an_error(found: type[OSProtocolError]) -> None:
    """From 400 to 599."""
    assert 400 <= found.http_status < 600


@pytest.mark.parametrize("found", all_errors(), ids=lambda found: found.__name__)
def test_every_class_says_what_it_means(found: type[OSProtocolError]) -> None:
    """The first line of its docstring is its meaning in the documents."""
    assert found.__doc__
    assert found.__doc__.splitlines()[0].endswith((".", ":"))


@pytest.mark.parametrize("sample", SAMPLES, ids=NAMES)
def test_an_error_is_one_line_of_text(sample: OSProtocolError) -> None:
    """Whatever its facts are, nothing breaks the line."""
    assert str(sample)
    assert "\n" not in str(sample)


@pytest.mark.parametrize("sample", SAMPLES, ids=NAMES)
def test_an_error_survives_pickling(sample: OSProtocolError) -> None:
    """Class, facts and text are the same in another process."""
    back = pickle.loads(pickle.dumps(sample))
    assert (type(back), str(back), back.args) == (type(sample), str(sample), sample.args)
    assert vars(back) == vars(sample)


@pytest.mark.parametrize("sample", SAMPLES, ids=NAMES)
def test_an_error_can_be_copied(sample: OSProtocolError) -> None:
    """A copy has the same text."""
    assert str(copy.copy(sample)) == str(sample)


@pytest.mark.parametrize("sample", [one for one in SAMPLES if isinstance(one, RunError)], ids=lambda one: one.code)
def test_every_error_about_a_run_has_its_id(sample: RunError) -> None:
    """As an attribute and in its text."""
    assert sample.run_id
    assert sample.run_id in str(sample) or isinstance(sample, RequestError)


@pytest.mark.parametrize("sample", [one for one in SAMPLES if isinstance(one, RequestError)], ids=lambda one: one.code)
def test_every_error_about_a_request_names_it(sample: RequestError) -> None:
    """By its id, or by those that are open."""
    assert sample.run_id == RUN
    assert sample.request_id in str(sample)


def test_the_branches_are_three_and_the_terminal_error() -> None:
    """Your call, one run, the ground under us; and what workflow code raises to end its run."""
    assert set(OSProtocolError.__subclasses__()) == {UsageError, RunError, EngineError, TerminalError}


def test_the_drawing_at_the_top_lists_every_class_under_its_branch() -> None:
    """The tree in the module's docstring is the tree."""
    assert errors.__doc__ is not None
    drawn: dict[str, str] = {}
    branches: list[tuple[int, str]] = []
    for line in errors.__doc__.splitlines():
        names = re.findall(r"\b\w+Error\b", line.split("    what")[0])
        if not names or not ("──" in line or line.strip() == "OSProtocolError"):
            continue
        indent = len(line) - len(line.lstrip("│├└─ "))
        while branches and branches[-1][0] >= indent:
            branches.pop()
        for name in names:
            drawn[name] = branches[-1][1] if branches else "Exception"
        if len(names) == 1:
            branches.append((indent, names[0]))
    assert set(drawn) == {found.__name__ for found in all_errors()}
    for found in all_errors():
        above = {base.__name__ for base in found.__mro__[1:]}
        assert drawn[found.__name__] in above, found


def test_a_reader_of_a_result_is_not_cancelled_by_it() -> None:
    """`RunCancelledError` is no `asyncio.CancelledError`, and an `except Exception` sees it."""
    assert issubclass(errors.RunCancelledError, Exception)


def test_a_steps_timeout_is_a_timeout_error() -> None:
    """Code that catches Python's own class catches it."""
    assert issubclass(errors.StepTimedOutError, TimeoutError)


@pytest.mark.parametrize("text", ["two\nlines", "carriage\rreturn", "line\u2028separator"])
def test_a_fact_with_line_breaks_does_not_break_the_line(text: str) -> None:
    """The message of somebody's exception may have any number of lines; ours has one."""
    assert len(str(errors.RunFailedError(RUN, "ValueError", text)).splitlines()) == 1
    assert len(str(errors.StepFailedError(RUN, "load", "ValueError", text, 1)).splitlines()) == 1
