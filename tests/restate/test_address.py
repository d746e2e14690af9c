"""How a `restate:` URL is read, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from osprotocol._restate.address import Address
from osprotocol.errors import InvalidOptionError

KEY = "publickeyv1_GC7AEAdr3FeYQupQHja3iWSLxm2jBQRjdBqcAkufzSPY"


def parse(url: str, environ: Mapping[str, str] | None = None) -> Address:
    return Address.parse(url, environ or {})


def test_a_node_alone_has_restates_usual_ports_and_the_main_ledger() -> None:
    """What a URL does not say is what Restate does by default."""
    assert parse("restate:http://a") == Address(
        ingress=("http://a:8080",), admin=("http://a:9070",), namespace="main", nodes=("http://a:5122",)
    )


def test_several_nodes_share_one_namespace() -> None:
    """The path after the last node is the namespace, and each node has its admin API."""
    address = parse("restate:http://a:8081,http://b:8082/shop")
    assert (address.ingress, address.namespace) == (("http://a:8081", "http://b:8082"), "shop")
    assert address.admin == ("http://a:9070", "http://b:9070")


@pytest.mark.parametrize(
    "url",
    ["restate://a:8080/shop", "RESTATE:http://a:8080/shop/", "restate:http://A:8080/shop", "restate:http://a/shop"],
)
def test_other_ways_to_write_the_same(url: str) -> None:
    """Two slashes mean http, the scheme and the host have no case, and a slash at the end is nothing."""
    assert parse(url) == parse("restate:http://a:8080/shop")


def test_https_is_port_443() -> None:
    """What https means elsewhere, it means here."""
    assert parse("restate:https://cloud.example/shop").ingress == ("https://cloud.example:443",)


def test_an_ipv6_node() -> None:
    """Brackets stay around it."""
    assert parse("restate:http://[::1]:8080").admin == ("http://[::1]:9070",)


def test_options_of_the_url() -> None:
    """Every option has its place, and percent signs are undone."""
    address = parse(
        "restate:http://a/shop?admin=http://x:1,http://y&endpoint=http://me:9080&replica=/var/my%20copy.db&nodes=http://z:7"
    )
    assert address.admin == ("http://x:1", "http://y:9070")
    assert (address.endpoint, address.replica) == ("http://me:9080", Path("/var/my copy.db"))
    assert address.nodes == ("http://z:7",)


def test_the_environment_says_what_the_url_does_not() -> None:
    """A variable counts where the URL has no such option."""
    environ = {
        "OSP_RESTATE_ADMIN": "http://x:1",
        "OSP_RESTATE_ENDPOINT": "http://env:1",
        "OSP_RESTATE_REPLICA": "r.db",
        "OSP_RESTATE_IDENTITY_KEYS": f"{KEY}, {KEY}2",
    }
    address = parse("restate:http://a?endpoint=http://url:2", environ)
    assert (address.admin, address.endpoint, address.replica) == (("http://x:1",), "http://url:2", Path("r.db"))
    assert address.identity_keys == (KEY, f"{KEY}2")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("restate:", "http://HOST:PORT"),
        ("restate:a:8080/shop", "http://HOST:PORT"),
        ("restate:http:///shop", "http://HOST:PORT"),
        ("restate:ftp://a", "http://HOST:PORT"),
        ("restate:http://a:99999", "out of range"),
        ("restate:http://a,b:8080/shop", "http://HOST:PORT"),
        ("restate:http://a/x,http://b/y", "has a path"),
        ("restate:http://me:secret@a/shop", "password"),
        ("restate:http://a/sh op", "not usable"),
        ("restate:http://a/shop#1", "not usable"),
        ("restate:http://a/shop/two", "no namespace"),
        ("restate:http://a/.hidden", "no namespace"),
        (f"restate:http://a/{'n' * 65}", "no namespace"),
        ("restate:http://a?colour=red", "no option 'colour'"),
        ("restate:http://a?admin=http://x&admin=http://y", "twice"),
        ("restate:http://a?replica=", "no usable value"),
        ("restate:http://a?replica=a%00b", "no usable value"),
        ("restate:http://a?endpoint=http://me", "http://HOST:PORT"),
        ("restate:http://a?endpoint=https://me:9080", "http://HOST:PORT"),
        ("restate:http://a?admin=http://x/path", "has a path"),
        ("http://a:8080/shop", "restate:http://HOST:8080/NAMESPACE"),
    ],
)
def test_what_is_refused(url: str, told: str) -> None:
    """A URL that is wrong is refused in one line that says how to write it, and shows no password."""
    with pytest.raises(InvalidOptionError) as refusal:
        parse(url)
    text = str(refusal.value)
    assert told in text
    assert "\n" not in text
    assert "secret" not in text


def test_a_key_that_is_none_is_refused() -> None:
    """A key of another kind would leave the endpoint refusing everything."""
    with pytest.raises(InvalidOptionError, match="is no key"):
        parse("restate:http://a", {"OSP_RESTATE_IDENTITY_KEYS": "ssh-ed25519"})


def test_the_copy_lies_in_the_nearest_folder(tmp_path: Path) -> None:
    """The copy of each ledger has a file of its own beside the embedded engine's."""
    (tmp_path / ".osp").mkdir()
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    address = parse("restate:http://a:8081,http://b/shop")
    assert address.default_replica(below) == tmp_path / ".osp" / "restate-a-8081-shop.db"


def test_a_new_folder_for_the_copy(tmp_path: Path) -> None:
    """With no folder upward it is a new one where we are."""
    address = parse("restate:http://[::1]")
    assert address.default_replica(tmp_path).name == "restate---1-8080-main.db"
    assert address.default_replica(tmp_path).parent.parent == tmp_path
