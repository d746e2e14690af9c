"""Where a Restate cluster is, and which of its ledgers: the parts of a ``restate:`` URL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from osprotocol.errors import InvalidOptionError

# What a server listens on unless it is told otherwise.
_INGRESS_PORT: Final = 8080
_ADMIN_PORT: Final = 9070
_NODE_PORT: Final = 5122

_OPTIONS: Final = ("admin", "endpoint", "nodes", "replica")
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_EXAMPLE: Final = "restate:http://HOST:8080/NAMESPACE"
_KEYS: Final = "OSP_RESTATE_IDENTITY_KEYS"
_KEY_PREFIX: Final = "publickeyv1_"


@dataclass(frozen=True, slots=True)
class Address:
    """A ledger on a Restate cluster, and how we meet it.

    Attributes:
        ingress: ``http://host:port`` of each node that takes calls.
        admin: the same of the nodes' admin API.
        namespace: which ledger.
        endpoint: ``http://host:port`` at which Restate reaches this process; None: found out.
        replica: the file with the local copy; None: `default_replica`.
        identity_keys: public keys of Restate; with any, our endpoint refuses what is not signed with one of them.
        nodes: ``http://host:port`` where the nodes give their metrics.
    """

    ingress: tuple[str, ...]
    admin: tuple[str, ...]
    namespace: str
    endpoint: str | None = None
    replica: Path | None = None
    identity_keys: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()

    @classmethod
    def parse(cls, url: str, environ: Mapping[str, str]) -> Address:
        """The address that a URL is; what it does not say is looked for in ``OSP_RESTATE_...`` variables.

        Raises:
            InvalidOptionError: it is none.
        """
        scheme, _, rest = url.partition(":")
        if scheme.lower() != "restate" or not url.isprintable() or " " in url or "#" in url:
            raise InvalidOptionError("url", f"{url!r} is not usable; write {_EXAMPLE}")
        places, _, query = rest.partition("?")
        if places.startswith("//"):  # restate://a:8080/shop
            places = ",".join(f"http://{place}" for place in places.removeprefix("//").split(","))
        protocol, separator, tail = places.rpartition("://")
        host, _, namespace = tail.partition("/")
        ingress = _nodes("url", f"{protocol}{separator}{host}", (), _INGRESS_PORT)
        namespace = namespace.removesuffix("/") or "main"
        if _NAMESPACE.fullmatch(namespace) is None:
            allowed = "1 to 64 letters, digits, dots, dashes and underscores"
            raise InvalidOptionError("url", f"{namespace!r} is no namespace; it has {allowed}")
        given = _options(query, environ)
        endpoint = given["endpoint"]
        if endpoint is not None and not endpoint.startswith("http://"):
            raise InvalidOptionError("endpoint", f"{endpoint!r} is not usable; write http://HOST:PORT")
        keys = tuple(key.strip() for key in environ.get(_KEYS, "").split(",") if key.strip())
        for key in keys:
            if not key.startswith(_KEY_PREFIX):
                raise InvalidOptionError(_KEYS, f"{key[:40]!r} is no key; Restate's log has its own, {_KEY_PREFIX}...")
        return cls(
            ingress=ingress,
            admin=_nodes("admin", given["admin"], ingress, _ADMIN_PORT),
            namespace=namespace,
            endpoint=None if endpoint is None else _node("endpoint", endpoint, None),
            replica=None if given["replica"] is None else Path(given["replica"]),
            identity_keys=keys,
            nodes=_nodes("nodes", given["nodes"], ingress, _NODE_PORT),
        )

    def copy_path(self, start: Path) -> Path:
        """The file with the local copy, seen from a folder."""
        return self.replica or self.default_replica(start)

    def default_replica(self, start: Path) -> Path:
        """The file for the copy: in the nearest ``.osp`` folder upward from a folder, else in a new one there."""
        first = urlsplit(self.ingress[0])
        host = (first.hostname or "").replace(":", "-")
        name = f"restate-{host}-{first.port}-{self.namespace}.db"
        folders = [folder / ".osp" for folder in (start, *start.parents)]
        return next((folder for folder in folders if folder.is_dir()), folders[0]) / name


def bracketed(host: str) -> str:
    """A host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def _options(query: str, environ: Mapping[str, str]) -> dict[str, str | None]:
    given: dict[str, str | None] = {name: environ.get(f"OSP_RESTATE_{name.upper()}") or None for name in _OPTIONS}
    seen = set()
    for part in query.split("&") if query else ():
        name, _, text = part.partition("=")
        value = unquote(text)
        if name not in _OPTIONS:
            raise InvalidOptionError("url", f"has no option {name!r}; there are {', '.join(_OPTIONS)}")
        if name in seen:
            raise InvalidOptionError("url", f"has the option {name} twice; separate several addresses by commas")
        if not value or not value.isprintable():
            raise InvalidOptionError(name, "has no usable value in the URL")
        seen.add(name)
        given[name] = value
    return given


def _nodes(option: str, given: str | None, ingress: tuple[str, ...], port: int) -> tuple[str, ...]:
    """The addresses that were given, else the other port of the same nodes; each once."""
    if given is not None:
        return tuple(dict.fromkeys(_node(option, place, port) for place in given.split(",")))
    parts = [urlsplit(node) for node in ingress]
    return tuple(dict.fromkeys(f"{part.scheme}://{bracketed(part.hostname or '')}:{port}" for part in parts))


def _node(option: str, place: str, port: int | None) -> str:
    """A node's URL with nothing left out; `port` is the usual one, None if there is none."""
    try:
        parts = urlsplit(place)
        number = parts.port or (443 if parts.scheme == "https" else port)
    except ValueError as error:
        raise InvalidOptionError(option, f"{place!r} is not usable: {error}") from None
    if parts.username is not None or parts.password is not None:
        raise InvalidOptionError(option, "holds a user name or password; Restate's ports know none")
    if parts.scheme not in ("http", "https") or not parts.hostname or number is None:
        raise InvalidOptionError(option, f"{place!r} is not usable; write http://HOST:PORT")
    if parts.path not in ("", "/") or parts.query:
        raise InvalidOptionError(option, f"{place!r} has a path; write http://HOST:PORT")
    return f"{parts.scheme}://{bracketed(parts.hostname)}:{number}"
