"""The results section of README.md, between two markers."""

from __future__ import annotations

from pathlib import Path

BEGIN = "<!-- results: begin -->"
END = "<!-- results: end -->"


def replace_results(readme: Path, text: str) -> None:
    """Put `text` between the markers.

    Raises:
        ValueError: The file does not have both markers, in order.
    """
    old = readme.read_text(encoding="utf-8")
    head, begin, rest = old.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{readme} has no section between {BEGIN} and {END}")
    readme.write_text(f"{head}{BEGIN}\n{text.strip()}\n{END}{tail}", encoding="utf-8")
