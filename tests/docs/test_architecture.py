"""ARCHITECTURE.md and the tree agree about which files there are."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "osprotocol"
TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def section(room: str) -> str:
    """What the document says about a room: from its headline to the next."""
    found = re.search(rf"^### {re.escape(room)}/\n(.*?)^##", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None, f"ARCHITECTURE.md has no section {room}/"
    return found[1]


@pytest.mark.parametrize("room", ["_lifecycle", "_embedded", "_restate", "_http", "server"])
def test_every_file_of_a_room_is_named(room: str) -> None:
    """A file that the document does not name is one that nobody finds."""
    files = {path.name for path in (SRC / room).glob("*.py")} - {"__init__.py"}
    assert not {name for name in files if f"`{name}`" not in section(room)}


@pytest.mark.parametrize("room", ["_lifecycle", "_embedded", "_restate", "_http", "server"])
def test_every_file_that_is_named_in_a_room_exists(room: str) -> None:
    """The tables name no file that was moved or removed."""
    rows = [line.split("|")[1] for line in section(room).splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+\.py)`", row)}
    assert not {name for name in named if not (SRC / room / name).exists()}
