"""What tests on a Restate server get."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.restate.nodes import RestateNode

# Scenarios live in the package; their asserts tell as much as those of tests.
pytest.register_assert_rewrite("osprotocol.testing.conformance")


@pytest.fixture(scope="session")
def restate_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestateNode]:
    """One server for all tests of this process. A test has a namespace of its own on it, and leaves it running."""
    with RestateNode(tmp_path_factory.mktemp("restate")) as node:
        yield node
