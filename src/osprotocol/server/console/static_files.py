"""The files that browsers load: read once, known by a name that holds a hash of their content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from osprotocol.errors import InvalidNameError

_FOLDER = Path(__file__).parent / "static"
_TYPES = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file.

    Attributes:
        name: with the hash, as in its address.
        etag: quoted, as in the header.
    """

    name: str
    media_type: str
    content: bytes
    etag: str


def _read(name: str, media_type: str) -> StaticFile:
    content = (_FOLDER / name).read_bytes()
    mark = hashlib.sha256(content).hexdigest()[:16]
    stem, _, ending = name.rpartition(".")
    return StaticFile(f"{stem}.{mark}.{ending}", media_type, content, f'"{mark}"')


_FILES = {name: _read(name, media_type) for name, media_type in _TYPES.items()}
MANIFEST = {file.name: file for file in _FILES.values()}
"""Every file that ``/static/`` gives, by name. There is no other."""


def static_url(name: str) -> str:
    """The address of a file, which changes with its content.

    Raises:
        InvalidNameError: there is no such file.
    """
    file = _FILES.get(name)
    if file is None:
        raise InvalidNameError("static file", name, f"it is none of {', '.join(_FILES)}")
    return f"/static/{file.name}"
