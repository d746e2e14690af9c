"""Scenarios live in the package; their asserts tell as much as those of tests."""

import pytest

pytest.register_assert_rewrite("osprotocol.testing.conformance")
