"""Every error comes over HTTP as the same error with the same facts."""

import json

import pytest

from osprotocol._http.problems import error_of
from osprotocol.errors import EngineError, OSProtocolError
from osprotocol.server.problems import answer_of
from tests.wire.error_samples import SAMPLES

WHERE = "http://127.0.0.1:8321"


@pytest.mark.parametrize("error", SAMPLES, ids=[type(error).__name__ for error in SAMPLES])
def test_an_error_comes_back_as_it_was(error: OSProtocolError) -> None:
    """An error made a problem document and back has the same class, facts, attributes and text."""
    back = error_of(json.loads(bytes(answer_of(error).body)), WHERE)
    assert type(back) is type(error)
    assert (back.args, vars(back), str(back)) == (error.args, vars(error), str(error))


def test_an_error_of_a_newer_server_keeps_its_text() -> None:
    """A code that this version does not know becomes an EngineError with the server's own words."""
    error = error_of({"code": "moon-phase", "detail": "the moon is in the way", "facts": [1]}, WHERE)
    assert type(error) is EngineError
    assert str(error) == f"{WHERE}: the moon is in the way"


def test_facts_that_do_not_fit_keep_the_text() -> None:
    """Facts that the class of this version cannot take become an EngineError with the server's own words."""
    for facts in ([], [1, 2, 3, 4, 5], ["run", "id", "outcome", 7, None], "run", None):
        error = error_of({"code": "invalid-answer", "detail": "it does not fit", "facts": facts}, WHERE)
        assert str(error) == f"{WHERE}: it does not fit"


@pytest.mark.parametrize("answer", [None, [], "no", 3])
def test_what_is_no_problem_document_is_still_an_error(answer: object) -> None:
    """Anything else in the place of a problem document is an EngineError."""
    assert type(error_of(answer, WHERE)) is EngineError
