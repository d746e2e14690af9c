"""The generated parts of the documents are what the code makes now."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["lifecycle.md", "errors.md", "http-api.md"])
def test_a_document_is_current(generate: ModuleType, name: str) -> None:
    """Run `python docs/generate.py` when this fails."""
    assert DOCS / name in generate.documents()
    text = (DOCS / name).read_text(encoding="utf-8")
    assert generate.generated(text) == text


def test_every_part_is_in_a_document(generate: ModuleType) -> None:
    """Nothing is generated for nobody."""
    texts = "".join(path.read_text(encoding="utf-8") for path in generate.documents())
    assert [name for name in generate.PARTS if f"<!-- generated: {name} -->" not in texts] == []
