"""Home, Runs, Audit and Settings, and what all pages have."""

from __future__ import annotations

import json
import re

import pytest

from osprotocol import RunStatus
from osprotocol.server.access import Role
from osprotocol.server.console.rendering import environment
from osprotocol.server.console.static_files import MANIFEST, static_url
from tests.server.console.reading import form_in
from tests.server.console.test_run_page import HOSTILE, opened, press, text_of
from tests.server.security.world import OURS, world

PAGES = ("/", "/runs", "/audit", "/settings")


@pytest.mark.parametrize("path", PAGES)
async def test_pages_have_landmarks_and_one_first_heading(path: str) -> None:
    """Language, skip link, navigation, main content, title."""
    async with world() as made:
        _, page = await opened(made, "operator", path)
        for part in (
            '<html lang="en"',
            'class="skip" href="#main"',
            '<nav class="nav" aria-label="Main"',
            '<main id="main"',
        ):
            assert part in page
        assert len(re.findall(r"<h1[ >]", page)) == 1
        assert re.search(r"<title>[^<]+ · osprotocol</title>", page)


@pytest.mark.parametrize("path", PAGES)
async def test_pages_load_nothing_from_elsewhere_and_nothing_inline(path: str) -> None:
    """Only files of the manifest."""
    async with world() as made:
        await made.start("operator", "guarded", HOSTILE)
        await made.start("operator", "breaking", HOSTILE)
        _, page = await opened(made, "operator", path)
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)|javascript:", page)
        loaded = re.findall(r'<(?:script|link|img)[^>]*\s(?:src|href)="([^"]+)"', page)
        assert loaded
        assert all(address.removeprefix("/static/") in MANIFEST for address in loaded)


async def test_static_files_never_get_stale() -> None:
    """Their names hold a hash; a browser may keep them for ever."""
    async with world() as made, made.http() as http:
        answer = await http.get(static_url("console.css"))
        assert answer.headers["content-type"] == "text/css; charset=utf-8"
        assert "immutable" in answer.headers["cache-control"]
        again = await http.get(static_url("console.css"), headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["console.css", "../app.py", "..%2fapp.py", "nothing.js", ""])
async def test_only_files_of_the_manifest_are_served(name: str) -> None:
    """Nothing else in the folder, nothing outside of it."""
    async with world() as made, made.http() as http:
        assert (await http.get(f"/static/{name}")).status_code == 404


def test_the_script_is_small() -> None:
    """Under 25 kB."""
    assert len(next(file.content for file in MANIFEST.values() if file.name.endswith(".js"))) < 25_000


def test_every_template_compiles_and_escapes() -> None:
    """Autoescape is on for all of them."""
    for name in environment.list_templates():
        environment.get_template(name)
    assert environment.from_string("{{ x }}").render(x="<b>") == "&lt;b&gt;"


def test_unknown_names_in_templates_are_errors() -> None:
    """A misspelled name is no empty text."""
    with pytest.raises(Exception, match="nothing_like_it"):
        environment.from_string("{{ nothing_like_it }}").render()


# ----------------------------------------------------------------------------- home


async def test_home_counts_what_waits_for_this_person() -> None:
    """Also in the title and the navigation."""
    async with world() as made:
        await made.start("operator", "guarded", "Tokyo")
        await made.start("operator", "guarded-by-name", ["somebody-else"])
        _, page = await opened(made, "approver", "/")
        assert "<title>(1) Home" in page
        assert "Needs you 1 the oldest just now" in text_of(page)
        assert "Publish Tokyo?" in page


async def test_viewers_are_not_told_that_something_needs_them() -> None:
    """They cannot answer."""
    async with world() as made:
        await made.start("operator", "guarded", "Tokyo")
        _, page = await opened(made, "viewer", "/")
        assert "Needs you" not in page
        assert "<title>Home" in page


# ----------------------------------------------------------------------------- runs


async def test_filters_are_in_the_address() -> None:
    """Status, workflow, text and label."""
    async with world() as made:
        await made.start("operator", "guarded", "Tokyo")
        failed = await made.start("operator", "breaking", "it")
        browser = await made.browser("viewer")
        for query, is_there in (
            ("status=failed", True), ("status=awaiting", False),
            ("workflow=breaking", True), ("workflow=echoing", False),
            ("text=cannot+use", True), ("text=nothing+like+it", False), ("label=a%3Db", False), ("since=1h", True),
        ):  # fmt: skip
            page = (await browser.get(f"/runs?{query}")).text
            assert (f'href="/runs/{failed}"' in page) is is_there, query


@pytest.mark.parametrize(
    "query", ["status=odd", "label=noequals", "cursor=odd", "since=odd", "startedAfter=odd", "startedAfter=2026-01-01"]
)
async def test_a_filter_that_makes_no_sense_is_explained(query: str) -> None:
    """And all runs are shown."""
    async with world() as made:
        run_id = await made.start("operator", "breaking", "it")
        answer = await (await made.browser("viewer")).get(f"/runs?{query}")
        assert answer.status_code == 400
        assert "That filter does not work" in answer.text
        assert run_id in answer.text


async def test_many_are_cancelled_at_once_with_a_result_for_each() -> None:
    """One that has ended is refused, the others are done."""
    async with world() as made:
        going = await made.start("operator", "guarded", "Tokyo")
        ended = await made.start("operator", "breaking", "it")
        browser, page = await opened(made, "operator", "/runs?workflow=guarded")
        given = dict(form_in(page, "/runs/bulk"))
        answer = await browser.post(
            "/runs/bulk",
            data={
                "csrf": given["csrf"],
                "back": given["back"],
                "run": [going, ended],
                "action": "pause",
                "reason": "why",
            },
        )
        assert "1 of 2 runs paused" in answer.text
        assert "cannot pause, it is failed" in text_of(answer.text)
        assert 'href="/runs?workflow=guarded"' in answer.text
        assert (await made.client.get(going)).waiting_on[-1].prompt == "why"


async def test_a_bulk_action_leaves_what_one_does_not_see() -> None:
    """For a token that is limited to a workflow, the runs of others do not exist."""
    async with world() as made:
        hidden = await made.start("operator", "secluded", "Tokyo")
        await made.add_token("limited", "operator", "operator", workflows=["guarded"])
        async with made.http("limited") as http:
            page = (await http.get("/runs")).text
            answer = await http.post("/runs/bulk", data={"run": [hidden], "action": "cancel"})
        assert hidden not in page
        assert "0 of 1 run cancelled" in answer.text
        assert (await made.client.get(hidden)).status is RunStatus.AWAITING


# ---------------------------------------------------------------------------- audit


async def test_the_audit_log_is_filtered_and_exported() -> None:
    """As a page and as a file of JSON lines."""
    async with world() as made:
        run_id = await made.start("operator", "guarded", "Tokyo")
        browser, page = await opened(made, "approver", f"/audit?by=operator&run={run_id}")
        assert page.count("<code>run.start</code>") == 1
        assert "user.add" not in page
        file = await browser.get(f"/audit/export.ndjson?run={run_id}")
        assert [json.loads(line)["action"] for line in file.text.splitlines()] == ["run.start"]


async def test_the_chain_is_checked_on_request() -> None:
    """And the newest number and hash are shown."""
    async with world() as made:
        _, page = await opened(made, "operator", "/audit?verify=1")
        number, hashed = made.books.audit_head()
        assert "Every record is as it was written" in page
        assert hashed in page
        assert number


async def test_viewers_have_no_audit() -> None:
    """The page says which roles have."""
    async with world() as made:
        answer = await (await made.browser("viewer")).get("/audit")
        assert answer.status_code == 403
        assert "needs the role" in answer.text


# ------------------------------------------------------------------------- settings


async def test_a_token_is_shown_once() -> None:
    """On the page that answers, and never again."""
    async with world() as made:
        browser, page = await opened(made, "operator", "/settings")
        answer = await press(browser, page, "/settings/tokens", label="ci", days="30")
        found = re.search(r"osp_[0-9a-z]+_[0-9a-z]{40,}", answer.text)
        assert found is not None
        token = made.books.find_token(found[0])
        assert token is not None
        assert (token.user, token.roles) == ("operator", ("operator",))
        assert found[0] not in (await browser.get("/settings")).text


async def test_nobody_makes_a_token_with_more_rights() -> None:
    """A role that one does not have is refused."""
    async with world() as made:
        browser, page = await opened(made, "operator", "/settings")
        answer = await press(browser, page, "/settings/tokens", label="ci", role="admin")
        assert answer.status_code == 403
        assert len(made.books.tokens("operator")) == 1


async def test_a_revoked_token_is_refused() -> None:
    """From then on."""
    async with world() as made:
        browser, page = await opened(made, "operator", "/settings")
        (token,) = made.books.tokens("operator")
        assert (await press(browser, page, f"/settings/tokens/{token.id}/revoke")).status_code == 303
        async with made.http("operator") as http:
            assert (await http.get("/api/v1/me")).status_code == 401


async def test_one_chooses_ones_own_password() -> None:
    """Without one it is enough to be signed in; the next time the current one is asked for."""
    good, other = "correct horse battery", "another long password"
    async with world() as made:
        await made.add_person("newcomer", "viewer")
        browser, page = await opened(made, "newcomer", "/settings")
        assert "Current password" not in page
        differ = await press(browser, page, "/settings/password", password=good, again=other)
        assert "not the same" in differ.text
        changed = await press(browser, page, "/settings/password", password=good, again=good)
        assert changed.status_code == 303
        page = (await browser.get("/settings")).text
        browser.headers["X-CSRF-Token"] = await made.csrf(browser)  # the session is a new one
        wrong = await press(browser, page, "/settings/password", current="no", password=other, again=other)
        assert "not the one that you have" in wrong.text
        async with made.http() as http:
            for password, status in ((other, 401), (good, 303)):
                data = {"name": "newcomer", "password": password}
                assert (await http.post("/sign-in", data=data, headers=OURS)).status_code == status


async def test_admins_add_people_with_a_link() -> None:
    """It signs in once; the page shows it once."""
    async with world() as made:
        browser, page = await opened(made, "admin", "/settings")
        answer = await press(browser, page, "/settings/users", name="newcomer", role="viewer")
        found = re.search(r"http://127.0.0.1:8321(/sign-in\?code=[^<\s]+)", answer.text)
        assert found is not None
        code = found[1].partition("=")[2]
        async with made.http() as http:
            assert (await http.post("/sign-in", data={"code": code}, headers=OURS)).status_code == 303
            assert (await http.post("/sign-in", data={"code": code}, headers=OURS)).status_code == 401


async def test_the_only_admin_stays() -> None:
    """Somebody has to be able to undo it."""
    async with world() as made:
        browser, page = await opened(made, "admin", "/settings")
        csrf = dict(form_in(page, "/settings/users/admin"))["csrf"]
        answer = await browser.post("/settings/users/admin", data={"csrf": csrf, "action": "disable"})
        assert answer.status_code == 400
        assert "is the only admin" in answer.text
        answer = await browser.post("/settings/users/admin", data={"csrf": csrf, "action": "roles", "role": "viewer"})
        assert answer.status_code == 400


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.ADMIN])
async def test_others_do_not_manage_people(role: Role) -> None:
    """Neither see them nor change them."""
    async with world() as made:
        browser, page = await opened(made, role.value, "/settings")
        assert 'id="people"' not in page
        csrf = await made.csrf(browser)
        answer = await browser.post("/settings/users", data={"csrf": csrf, "name": "x", "role": "admin"})
        assert answer.status_code == 403
        assert made.books.find_user("x") is None


async def test_the_theme_needs_no_script() -> None:
    """It is a cookie."""
    async with world() as made:
        browser, page = await opened(made, "viewer", "/settings")
        await press(browser, page, "/settings/theme", theme="dark")
        assert '<html lang="en" data-theme="dark">' in (await browser.get("/")).text
