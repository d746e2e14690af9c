"""A browser without script, as far as forms go: what a page's form would send when one of its buttons is pressed."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import urlencode

import httpx2


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.forms: dict[str, list[tuple[str, str]]] = {}
        self.buttons: dict[str, list[tuple[str, str]]] = {}
        self._form: list[tuple[str, str]] = []
        self._pressable: list[tuple[str, str]] = []
        self._area: str | None = None
        self._text = ""
        self._select: tuple[str, list[tuple[str, bool]]] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        name, value = given.get("name", ""), given.get("value", "")
        if tag == "form":
            self._form = self.forms[given.get("action", "")] = []
            self._pressable = self.buttons[given.get("action", "")] = []
        elif tag == "button" and name:
            self._pressable.append((name, value))
        elif tag == "input" and name and (given.get("type") not in ("checkbox", "radio") or "checked" in given):
            self._form.append((name, value))
        elif tag == "textarea":
            self._area, self._text = name, ""
        elif tag == "select":
            self._select = (name, [])
        elif tag == "option" and self._select is not None:
            self._select[1].append((value, "selected" in given))

    def handle_data(self, data: str) -> None:
        self._text += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea" and self._area is not None:
            self._form.append((self._area, self._text.removeprefix("\n").replace("\n", "\r\n")))
            self._area = None
        elif tag == "select" and self._select is not None:
            name, options = self._select
            chosen = [value for value, is_selected in options if is_selected] or [options[0][0]]
            self._form.append((name, chosen[-1]))
            self._select = None


def form_in(html: str, action: str) -> list[tuple[str, str]]:
    """What the form with this action sends, without its buttons."""
    forms = _Forms()
    forms.feed(html)
    assert action in forms.forms, f"no form for {action} among {list(forms.forms)}"
    return list(forms.forms[action])


def buttons_in(html: str, action: str) -> list[tuple[str, str]]:
    """Name and value of the buttons of a form."""
    forms = _Forms()
    forms.feed(html)
    return forms.buttons.get(action, [])


async def send(
    browser: httpx2.AsyncClient, html: str, action: str, decision: str, **typed: str | list[str]
) -> httpx2.Response:
    """Type into a page's form and press a button. Names in `typed` have ``__`` for ``/``."""
    given: dict[str, str | list[str]] = {name.replace("__", "/"): value for name, value in typed.items()}
    assert ("decision", decision) in buttons_in(html, action), (decision, buttons_in(html, action))
    pairs = [(name, value) for name, value in form_in(html, action) if name not in given]
    for name, values in given.items():
        pairs += [(name, value) for value in ([values] if isinstance(values, str) else values)]
    body = urlencode([*pairs, ("decision", decision)])
    # The token is in the form; without script nothing else carries it.
    headers = {"Content-Type": "application/x-www-form-urlencoded", "X-CSRF-Token": dict(pairs)["csrf"]}
    return await browser.post(action, content=body, headers=headers)
