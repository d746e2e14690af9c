"""S5, S6, S20: what a browser is protected from, and how long it stays signed in."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from osprotocol.server.guard import CONTENT_SECURITY_POLICY
from osprotocol.server.hub import Pace
from osprotocol.server.settings import ServerSettings
from tests.server.security.world import BASE, OURS, PASSWORD, RawStream, World, world


async def state_of(it: World) -> Any:
    """What a change would change."""
    runs = await it.client.list()
    return (
        [(run.id, run.status, run.event) for run in runs.items],
        it.books.tokens(),
        it.books.users(),
        len(await it.actions()),
    )


# ---------------------------------------------------------------------------- S5


CROSS_SITE = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:9999"},
    {"Origin": "http://localhost.evil.example:8321"},
    {"Origin": BASE, "Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
]


@pytest.mark.parametrize("headers", CROSS_SITE, ids=str)
async def test_a_form_of_another_site_changes_nothing(headers: dict[str, str]) -> None:
    """S5: a cross-site form or fetch is refused, even with the cookie and a right token, and the state is unchanged."""
    async with world() as it:
        run = await it.start("operator", "guarded", "x")
        browser = await it.browser("operator")
        del browser.headers["Origin"]
        before = await state_of(it)
        token = browser.headers["X-CSRF-Token"]
        for path, body in (
            (f"/runs/{run}/pause", {"data": {"csrf": token}}),
            (f"/api/v1/runs/{run}/pause", {"json": {}}),
            ("/api/v1/runs", {"json": {"workflow": "guarded", "input": "y"}}),
            ("/sign-out", {"data": {"csrf": token}}),
        ):
            answer = await browser.post(path, headers=headers, **body)
            assert answer.status_code == 403, (path, answer.status_code)
        assert await state_of(it) == before
        await browser.aclose()


async def test_a_cookie_alone_changes_nothing() -> None:
    """S5: without the page's token, or with another session's, a change with a cookie is refused."""
    async with world() as it:
        run = await it.start("operator", "guarded", "x")
        browser, other = await it.browser("operator"), await it.browser("operator")
        strange = other.headers["X-CSRF-Token"]
        del browser.headers["X-CSRF-Token"]
        before = await state_of(it)
        for sent in ({}, {"csrf": ""}, {"csrf": strange}, {"csrf": "é"}):
            for path in (f"/runs/{run}/pause", f"/runs/{run}/cancel", "/sign-out"):
                assert (await browser.post(path, data=sent)).status_code == 403
        for headers in ({}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": strange}):
            assert (await browser.post(f"/api/v1/runs/{run}/pause", json={}, headers=headers)).status_code == 403
            assert (await browser.delete("/api/v1/tokens/abc", headers=headers)).status_code == 403
        assert await state_of(it) == before
        await browser.aclose()
        await other.aclose()


async def test_our_own_page_may_change_things() -> None:
    """S5: the form of our page works, with and without the headers that only newer browsers send."""
    async with world() as it:
        run = await it.start("operator", "guarded", "x")
        browser = await it.browser("operator")
        token = browser.headers.pop("X-CSRF-Token")
        del browser.headers["Origin"]
        paused = await browser.post(f"/runs/{run}/pause", data={"csrf": token, "reason": "look"}, headers=OURS)
        assert paused.status_code == 303
        same = {"Origin": "null", "Sec-Fetch-Site": "same-origin"}
        resumed = await browser.post(f"/runs/{run}/resume", data={"csrf": token}, headers=same)
        assert resumed.status_code == 303
        api = await browser.post(f"/api/v1/runs/{run}/pause", json={}, headers={"X-CSRF-Token": token})
        assert api.status_code == 200
        await browser.aclose()


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml", ""],
)
async def test_only_json_is_taken_by_the_api(kind: str) -> None:
    """S5: a body that a form of another site could send is refused, also when it is JSON in truth."""
    async with world() as it:
        browser = await it.browser("operator")
        body = b'{"workflow": "guarded", "input": "x"}'
        headers = {"Content-Type": kind} if kind else {}
        answer = await browser.post("/api/v1/runs", content=body, headers=headers)
        assert answer.status_code in (400, 415)
        assert not (await it.client.list()).items
        await browser.aclose()


async def test_the_method_cannot_be_overridden() -> None:
    """S5: a GET changes nothing, whatever header or parameter says that it is another method."""
    async with world() as it:
        run = await it.start("operator", "guarded", "x")
        browser = await it.browser("operator")
        before = await state_of(it)
        for path in (f"/runs/{run}/pause", f"/api/v1/runs/{run}/pause", "/sign-out", f"/api/v1/runs/{run}"):
            for name in ("X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"):
                await browser.get(f"{path}?_method=POST", headers={name: "POST"})
                await browser.get(f"{path}?_method=DELETE", headers={name: "DELETE"})
        assert await state_of(it) == before
        await browser.aclose()


async def test_nobody_is_signed_in_by_another_site() -> None:
    """S5: a sign-in form of another site, or one without an Origin, signs nobody in."""
    async with world() as it, it.http() as http:
        await it.add_person("ann", "viewer", password=True)
        for headers in ({}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
            answer = await http.post("/sign-in", data={"name": "ann", "password": PASSWORD}, headers=headers)
            assert answer.status_code == 403
            assert "set-cookie" not in answer.headers


async def test_a_token_needs_no_csrf_token() -> None:
    """S5: a program that sends a bearer token changes things without a page."""
    async with world() as it, it.http("operator") as http:
        answer = await http.post("/api/v1/runs", json={"workflow": "guarded", "input": "x"})
        assert answer.status_code == 201


# ---------------------------------------------------------------------------- S6


async def test_every_answer_has_the_security_headers() -> None:
    """S6: pages, errors, refusals, static files, not-modified and unexpected failures cannot be framed or sniffed."""
    async with world() as it:
        viewer = await it.browser("viewer")
        page = await viewer.get("/runs")
        static = "/static/" + page.text.split('"/static/')[1].split('"')[0]
        tag = (await viewer.get(static)).headers["etag"]

        @it.app.get("/boom")
        async def boom() -> None:
            raise RuntimeError("boom")

        answers = [
            page,
            await viewer.get("/nowhere"),
            await viewer.get("/api/v1/runs/doesnotexist"),
            await viewer.get("/api/v1/users"),
            await viewer.get(static),
            await viewer.get(static, headers={"If-None-Match": tag}),
            await viewer.get("/boom"),
            await viewer.get("/runs", headers={"Host": "evil.example"}),
            await viewer.post("/sign-in", content=b"x" * 2_000_000, headers={"Content-Type": "text/plain"}),
            await it.http().get("/sign-in"),
            await it.http().get("/runs"),
        ]
        assert {answer.status_code for answer in answers} >= {200, 303, 304, 403, 404, 413, 500}
        for answer in answers:
            assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
            assert answer.headers["x-frame-options"] == "DENY"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"
            assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        await viewer.aclose()


def test_the_policy_allows_nothing_from_elsewhere() -> None:
    """S6: no inline script or style, no frame around the page, no base, no foreign address in the policy."""
    rules = dict(rule.strip().partition(" ")[::2] for rule in CONTENT_SECURITY_POLICY.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["frame-ancestors"] == "'none'"
    assert rules["base-uri"] == "'none'"
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert "http" not in CONTENT_SECURITY_POLICY
    assert rules["require-trusted-types-for"] == "'script'"


async def test_what_people_see_is_not_kept_by_caches() -> None:
    """S6: everything but the static files is sent with no-store."""
    async with world() as it, it.http("viewer") as http:
        for path in ("/api/v1/runs", "/api/v1/me", "/runs", "/sign-in", "/nowhere", "/healthz"):
            assert (await http.get(path)).headers["cache-control"] == "no-store"


# --------------------------------------------------------------------------- S20


async def test_signing_in_gives_a_new_cookie() -> None:
    """S20: the cookie that a browser had before, planted or real, is not the one that it gets."""
    async with world() as it:
        await it.add_person("ann", "viewer", password=True)
        browser = it.http()
        browser.cookies.set("osp_session_8321", "planted", domain="127.0.0.1", path="/")
        form = {"name": "ann", "password": PASSWORD}
        assert (await browser.post("/sign-in", data=form, headers=OURS)).status_code == 303
        secrets = [cookie.value or "" for cookie in browser.cookies.jar]
        first = next(secret for secret in secrets if secret != "planted")
        browser.cookies.clear()
        browser.cookies.set("osp_session_8321", first, domain="127.0.0.1", path="/")
        answer = await browser.post("/sign-in", data=form, headers=OURS)
        assert "osp_session_8321=" in answer.headers["set-cookie"]
        assert first not in answer.headers["set-cookie"]
        assert it.books.find_session(first) is None  # the session before has ended
        await browser.aclose()


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites() -> None:
    """S20: HttpOnly and SameSite=Strict; behind https also Secure with the prefix that ties it to the host."""
    async with world() as it, it.http() as http:
        link = await it.books.open_link("viewer", it.now + timedelta(minutes=5))
        cookie = (await http.post("/sign-in", data={"code": link}, headers=OURS)).headers["set-cookie"]
        assert cookie.startswith("osp_session_8321=")
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert "Domain" not in cookie
    async with world(ServerSettings(public_url="https://runs.example.org")) as it, it.http() as http:
        link = await it.books.open_link("viewer", it.now + timedelta(minutes=5))
        cookie = (await http.post("/sign-in", data={"code": link}, headers=OURS)).headers["set-cookie"]
        assert cookie.startswith("__Host-osp_session=")
        assert "Secure" in cookie
        assert "Path=/;" in cookie


async def test_a_session_ends_with_the_sign_out() -> None:
    """S20: the cookie of a browser that signed out is refused, wherever it is sent from."""
    async with world() as it:
        browser = await it.browser("viewer")
        cookies = dict(browser.cookies)
        assert (await browser.get("/api/v1/me")).status_code == 200
        assert (await browser.post("/sign-out")).status_code == 303
        thief = it.http()
        thief.cookies.update(cookies)
        assert (await thief.get("/api/v1/me")).status_code == 401
        assert "session.close" in await it.actions()
        await browser.aclose()
        await thief.aclose()


@pytest.mark.parametrize(
    ("steps", "hours", "good"),
    [(1, 11.9, True), (1, 12.1, False), (13, 11.9, True), (15, 11.9, False)],
    ids=["used-in-time", "idle-too-long", "six-days", "older-than-a-week"],
)
async def test_a_session_ends_by_time(steps: int, hours: float, good: bool) -> None:
    """S20: 12 hours without use, or 7 days in any case."""
    async with world() as it:
        browser = await it.browser("viewer")
        status = 200
        for _ in range(steps):
            await it.client.clock.advance(timedelta(hours=hours))
            status = (await browser.get("/api/v1/me")).status_code
        assert (status == 200) is good
        await browser.aclose()


async def test_a_lost_role_is_lost_at_once() -> None:
    """S20: a browser and a token may not do any more what their person may not, from the next request on."""
    async with world() as it:
        run = await it.start("operator", "guarded", "x")
        browser, admin = await it.browser("operator"), it.http("admin")
        assert (await browser.post(f"/api/v1/runs/{run}/pause", json={})).status_code == 200
        changed = await admin.patch("/api/v1/users/operator", json={"roles": ["viewer"]})
        assert changed.status_code == 200
        assert (await browser.post(f"/api/v1/runs/{run}/resume", json={})).status_code == 403
        async with it.http("operator") as program:
            # Its roles were operator, and the person has that no longer: nothing is left.
            assert (await program.post(f"/api/v1/runs/{run}/resume", json={})).status_code == 403
        await browser.aclose()
        await admin.aclose()


async def test_a_disabled_person_is_out_at_once() -> None:
    """S20: browser, token and sign-in link of a disabled person are refused."""
    async with world() as it:
        browser, admin = await it.browser("operator"), it.http("admin")
        link = await it.books.open_link("operator", it.now + timedelta(minutes=5))
        assert (await admin.patch("/api/v1/users/operator", json={"disabled": True})).status_code == 200
        assert (await browser.get("/api/v1/me")).status_code == 401
        async with it.http("operator") as program:
            assert (await program.get("/api/v1/me")).status_code == 401
        assert (await it.http().post("/sign-in", data={"code": link}, headers=OURS)).status_code == 401
        await browser.aclose()
        await admin.aclose()


def only_when_told(it: World) -> None:
    """Streams do not look by themselves after some time whether they may go on."""
    it.app.state.serving.hub.pace = Pace(recheck_s=3_600)


async def test_a_revoked_token_closes_its_stream() -> None:
    """S20: an open stream ends as soon as its token is revoked; the streams of others go on."""
    async with world() as it:
        only_when_told(it)
        token_id = await it.add_token("leaked", "viewer", "viewer")
        streams = [
            RawStream(it.app, "/api/v1/events", {"Authorization": f"Bearer {it.secrets[name]}"})
            for name in ("leaked", "admin")
        ]
        for stream in streams:
            await stream.until(b"retry:")
        async with it.http("admin") as admin:
            assert (await admin.delete(f"/api/v1/tokens/{token_id}")).status_code == 204
        await streams[0].ended.wait()
        assert not streams[1].ended.is_set()
        for stream in streams:
            await stream.close()


async def test_signing_out_closes_the_streams_of_that_browser() -> None:
    """S20: the stream that a page had open ends with the sign-out."""
    async with world() as it:
        only_when_told(it)
        browser = await it.browser("viewer")
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        stream = RawStream(it.app, "/api/v1/events", {"Cookie": cookie})
        await stream.until(b"retry:")
        await browser.post("/sign-out")
        await stream.ended.wait()
        await stream.close()
        await browser.aclose()


async def test_a_stream_ends_when_its_person_is_disabled() -> None:
    """S20: what an admin does to a person reaches open streams at once."""
    async with world() as it:
        only_when_told(it)
        stream = RawStream(it.app, "/api/v1/events", {"Authorization": f"Bearer {it.secrets['viewer']}"})
        await stream.until(b"retry:")
        async with it.http("admin") as admin:
            await admin.patch("/api/v1/users/viewer", json={"disabled": True})
        await stream.ended.wait()
        await stream.close()


# ---------------------------------------------------------------------- the link


async def test_looking_at_a_sign_in_link_changes_nothing() -> None:
    """A thousand GETs and HEADs by mail scanners leave the link as good as it was; the button then signs in, once."""
    async with world() as it, it.http() as http:
        link = await it.books.open_link("viewer", it.now + timedelta(minutes=5))
        for _ in range(500):
            await http.get(f"/sign-in?code={link}")
            await http.head(f"/sign-in?code={link}")
        page = await http.get(f"/sign-in?code={link}")
        assert page.status_code == 200
        assert "set-cookie" not in page.headers
        assert (await http.post("/sign-in", data={"code": link}, headers=OURS)).status_code == 303
        again = await http.post("/sign-in", data={"code": link}, headers=OURS)
        assert again.status_code == 401
        assert "used before" in again.text


async def test_a_link_signs_in_one_of_many() -> None:
    """Two browsers that use the same link at the same moment: one is signed in."""
    async with world() as it:
        link = await it.books.open_link("viewer", it.now + timedelta(minutes=5))
        browsers = [it.http() for _ in range(5)]
        answers = await asyncio.gather(
            *(browser.post("/sign-in", data={"code": link}, headers=OURS) for browser in browsers)
        )
        assert sorted(answer.status_code for answer in answers) == [303, 401, 401, 401, 401]


async def test_an_old_link_is_refused() -> None:
    """A link is good until its time is over."""
    async with world() as it, it.http() as http:
        link = await it.books.open_link("viewer", it.now + timedelta(minutes=5))
        await it.client.clock.advance(timedelta(minutes=5))
        assert (await http.post("/sign-in", data={"code": link}, headers=OURS)).status_code == 401


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("/runs/abc?tab=logs", "/runs/abc?tab=logs"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("/\\evil.example", "/"),
        ("/%09/evil.example", "/%09/evil.example"),
        ("/\t/evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/x\r\nSet-Cookie: a=b", "/"),
        ("", "/"),
        ("runs", "/"),
        ("/sign-out", "/"),
    ],
)
async def test_signing_in_leads_to_pages_of_ours_only(asked: str, given: str) -> None:
    """After signing in the browser goes to a path of this server, whatever the address said."""
    async with world() as it, it.http() as http:
        link = await it.books.open_link("viewer", it.now + timedelta(minutes=5))
        answer = await http.post("/sign-in", data={"code": link, "next": asked}, headers=OURS)
        assert answer.headers["location"] == given


async def test_who_comes_from_another_site_is_recognized_on_the_second_look() -> None:
    """The strict cookie does not come along from a link in a mail, so the sign-in page asks once more by itself."""
    async with world() as it:
        there = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        first = await it.http().get("/sign-in?next=/runs", headers=there)
        assert first.headers["refresh"] == "0; url=/sign-in?next=%2Fruns&again=1"
        browser = await it.browser("viewer")
        del browser.headers["Origin"]
        second = await browser.get("/sign-in?next=/runs&again=1")
        assert (second.status_code, second.headers["location"]) == (303, "/runs")
        third = await it.http().get("/sign-in?next=/runs&again=1", headers=there)
        assert "refresh" not in third.headers
        await browser.aclose()
