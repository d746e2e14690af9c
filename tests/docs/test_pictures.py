"""The pictures of the documents: small, shown somewhere, and all that is shown is there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "pictures"
MOST_BYTES = 200_000


def shown() -> set[str]:
    texts = [path.read_text(encoding="utf-8") for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))]
    return {name for text in texts for name in re.findall(r"!\[[^\]]+\]\((?:docs/)?pictures/([^)]+)\)", text)}


def test_every_picture_is_small() -> None:
    """None has more than 200 kB."""
    assert not [path.name for path in PICTURES.glob("*.png") if path.stat().st_size > MOST_BYTES]


def test_every_picture_is_shown_and_there() -> None:
    """Each has its place in a document, with words for those who cannot see it."""
    assert {path.name for path in PICTURES.glob("*.png")} == shown()
