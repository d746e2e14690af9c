"""S3, S9, S11: whose runs, which request, whose vote."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from osprotocol.server.settings import ServerSettings
from tests.server.security.world import BASE, PASSWORD, RawStream, World, world

# Every verb on a run: method, path, body. Each answers 404 for a run that is not there for the one who asks.
ON_A_RUN: list[tuple[str, str, Any]] = [
    ("GET", "", None),
    ("DELETE", "", None),
    ("GET", "/steps", None),
    ("GET", "/logs", None),
    ("GET", "/events", None),
    ("POST", "/pause", {}),
    ("POST", "/resume", {}),
    ("POST", "/cancel", {}),
    ("POST", "/retry", {}),
    ("POST", "/fork", {}),
    ("POST", "/approve", {}),
    ("POST", "/reject", {}),
    ("POST", "/respond", {"value": 1}),
    ("POST", "/requests", {"kind": "approval", "prompt": "?"}),
]
ON_A_REQUEST: list[tuple[str, str, Any]] = [
    ("GET", "", None),
    ("POST", "/approve", {}),
    ("POST", "/reject", {}),
    ("POST", "/respond", {"value": 1}),
]


async def two_workflows(it: World) -> tuple[str, str, str, str]:
    """A run of each of two workflows and their requests; ``limited`` is a token for the first workflow only."""
    await it.add_person("all", "viewer", "operator", "approver", "admin")
    await it.add_token("limited", "all", "viewer", "operator", "approver", "admin", workflows=["guarded"])
    ours, theirs = await it.start("all", "guarded", "x"), await it.start("all", "secluded", "y")
    return ours, theirs, (await it.question(ours)).id, (await it.question(theirs)).id


# ---------------------------------------------------------------------------- S3


@pytest.mark.parametrize(("method", "path", "body"), ON_A_RUN, ids=str)
async def test_a_run_of_another_workflow_does_not_exist(method: str, path: str, body: Any) -> None:
    """S3: for a token that is limited to a workflow each verb on another run answers as for a run that nobody has."""
    async with world() as it:
        _, theirs, _, _ = await two_workflows(it)
        before = (await it.client.get(theirs)).status
        async with it.http("limited") as http:
            there = await http.request(method, f"/api/v1/runs/{theirs}{path}", json=body)
            nowhere = await http.request(method, f"/api/v1/runs/{theirs[::-1]}{path}", json=body)
        assert there.status_code == nowhere.status_code == 404
        assert there.json()["code"] == nowhere.json()["code"] == "run-not-found"
        assert (await it.client.get(theirs)).status is before


@pytest.mark.parametrize(("method", "path", "body"), ON_A_REQUEST, ids=str)
async def test_a_request_of_another_workflow_does_not_exist(method: str, path: str, body: Any) -> None:
    """S3: the same for each verb on a request."""
    async with world() as it:
        _, _, _, theirs = await two_workflows(it)
        async with it.http("limited") as http:
            answer = await http.request(method, f"/api/v1/requests/{theirs}{path}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (404, "request-not-found")


async def test_lists_leave_out_what_is_not_there() -> None:
    """S3: runs, requests, events, workflows, statistics and audit of another workflow are in no list."""
    async with world() as it:
        ours, theirs, _, _ = await two_workflows(it)
        async with it.http("limited") as http:
            for path in (
                "/runs",
                "/runs?text=y",
                f"/runs?parent={theirs}",
                "/requests?open=all",
                f"/requests?run={theirs}",
                "/events",
                "/workflows",
                "/workers",
                "/audit",
                f"/audit?run={theirs}",
                "/runs?workflow=secluded",
            ):
                answer = await http.get(f"/api/v1{path}")
                assert answer.status_code == 200, path
                assert theirs not in answer.text, path
                assert "secluded" not in answer.text, path
            assert ours in (await http.get("/api/v1/audit")).text
            assert (await http.get("/api/v1/workflows/secluded")).status_code == 404
            started = await http.post("/api/v1/runs", json={"workflow": "secluded", "input": "z"})
            assert started.status_code == 404


async def test_pages_leave_out_what_is_not_there() -> None:
    """S3: the console shows a limited token no more than the API does."""
    async with world() as it:
        _, theirs, _, question = await two_workflows(it)
        async with it.http("limited") as http:
            for path in ("/", "/runs", "/inbox", "/inbox?view=all", "/workflows", "/audit"):
                answer = await http.get(path)
                assert answer.status_code == 200, path
                assert theirs not in answer.text, path
                assert "secluded" not in answer.text, path
            for path in (
                f"/runs/{theirs}",
                f"/requests/{question}",
                f"/runs/{theirs}/log.txt",
                "/workflows/secluded",
                "/workflows/secluded/start",
            ):
                assert (await http.get(path)).status_code == 404, path


async def test_every_member_of_a_batch_is_checked() -> None:
    """S3: a batch that mixes runs or requests of one's own with others changes only one's own."""
    async with world() as it:
        ours, theirs, mine, other = await two_workflows(it)
        await it.add_person("voter", "approver")
        await it.add_token("limited-voter", "voter", "approver", workflows=["guarded"])
        async with it.http("limited") as http:
            body = {"action": "pause", "runIds": [ours, theirs, theirs[:12]]}
            results = (await http.post("/api/v1/runs/bulk", json=body)).json()["items"]
            assert [result["ok"] for result in results] == [True, False, False]
            found = await http.post("/api/v1/runs/bulk", json={"action": "resume", "filter": {}})
            assert [result["runId"] for result in found.json()["items"]] == [ours]
        async with it.http("limited-voter") as http:
            votes = {"action": "approve", "requests": [{"id": other}, {"id": mine}]}
            items = (await http.post("/api/v1/requests/bulk", json=votes)).json()["items"]
            assert [(item["id"], item["ok"]) for item in items] == [(other, False), (mine, True)]
        assert (await it.client.get(theirs)).status == "awaiting"
        assert (await it.question(theirs)).responses == ()


async def test_a_limited_admin_cannot_reach_all_runs_at_once() -> None:
    """S3: pruning and evicting touch runs of every workflow, so a token for some of them may do neither."""
    async with world() as it:
        _, theirs, _, _ = await two_workflows(it)
        await (await it.client.get(theirs)).cancel("over", graceful=False)
        await it.client.clock.settle()
        worker = (await it.client.workers())[0].id
        async with it.http("limited") as http:
            pruned = await http.post("/api/v1/runs/prune", json={"olderThan": "2030-01-01T00:00:00Z"})
            assert pruned.status_code == 403
            assert (await it.client.get(theirs)).status == "cancelled"
            assert (await http.post(f"/api/v1/workers/{worker}/evict", json={})).status_code == 403


async def test_a_stream_leaves_out_what_is_not_there() -> None:
    """S3: events of other workflows are not in the live stream of a limited token."""
    async with world() as it:
        ours, theirs, _, _ = await two_workflows(it)
        stream = RawStream(it.app, "/api/v1/events", {"Authorization": f"Bearer {it.secrets['limited']}"})
        await stream.until(b"retry:")
        await (await it.client.get(theirs)).pause("not for you")
        await (await it.client.get(ours)).pause("for you")
        await stream.until(b"for you")
        await it.client.clock.settle()
        assert b"not for you" not in stream.received
        assert theirs.encode() not in stream.received
        await stream.close()


async def test_tokens_are_no_way_up() -> None:
    """S3: nobody makes a token with more than their own rights, and a token makes none at all unless it may."""
    async with world() as it:
        await it.add_token("narrow", "admin", "admin", workflows=["guarded"])
        browser = await it.browser("operator")
        refused = [
            (browser, {"roles": ["admin"]}),
            (browser, {"roles": ["operator", "approver"]}),
            (browser, {"user": "admin", "roles": ["admin"]}),
            (it.http("operator"), {}),
            (it.http("narrow"), {"workflows": ["guarded", "secluded"]}),
            (it.http("narrow"), {"workflows": ["guarded"]}),
            (it.http("admin"), {"user": "approver"}),
            (it.http("admin"), {"user": "approver", "roles": ["approver"]}),
        ]
        before = len(it.books.tokens())
        for http, body in refused:
            answer = await http.post("/api/v1/tokens", json=body)
            assert answer.status_code == 403, (body, answer.text)
        assert len(it.books.tokens()) == before
        made = await browser.post("/api/v1/tokens", json={"label": "mine"})
        assert made.json()["roles"] == ["operator"]
        await browser.aclose()


async def test_a_limited_admin_makes_nobody_who_sees_more() -> None:
    """S3: a token for some workflows manages no people: a new person, a role or a sign-in link would lead out of it."""
    async with world() as it:
        await it.add_token("narrow", "admin", "admin", workflows=["guarded"])
        everybody = ["viewer", "operator", "approver", "admin"]
        before = it.books.users()
        async with it.http("narrow") as http:
            for method, path, body in (
                ("POST", "/api/v1/users", {"name": "new", "roles": everybody}),
                ("PATCH", "/api/v1/users/viewer", {"roles": everybody}),
                ("PATCH", "/api/v1/users/viewer", {"password": "a password of its own"}),
                ("GET", "/api/v1/users", None),
            ):
                assert (await http.request(method, path, json=body)).status_code == 403
            forms: list[tuple[str, dict[str, Any]]] = [
                ("/settings/users", {"name": "new", "role": everybody}),
                ("/settings/users/viewer", {"action": "link"}),
                ("/settings/users/viewer", {"action": "roles", "role": everybody}),
            ]
            for path, form in forms:
                assert (await http.post(path, data=form)).status_code == 403
        assert it.books.users() == before


async def test_a_settings_form_is_checked_like_the_api() -> None:
    """S3: the forms of the settings give no role that is none, no token beyond one's own rights, and keep an admin."""
    async with world() as it:
        admin, operator = await it.browser("admin"), await it.browser("operator")
        before = it.books.users(), len(it.books.tokens())
        token = {"label": "x", "days": "30"}
        for browser, path, form in (
            (operator, "/settings/tokens", token | {"role": "admin"}),
            (operator, "/settings/tokens", token | {"role": ["operator", "approver"]}),
            (operator, "/settings/users", {"name": "new", "role": "viewer"}),
            (operator, f"/settings/tokens/{it.books.tokens('viewer')[0].id}/revoke", {}),
            (admin, "/settings/users/admin", {"role": "viewer"}),
            (admin, "/settings/users/admin", {"action": "disable"}),
            (admin, "/settings/users/viewer", {"role": "god"}),
            (admin, "/settings/users/nobody", {"action": "link"}),
        ):
            csrf = browser.headers["X-CSRF-Token"]
            answer = await browser.post(path, data={**form, "csrf": csrf})
            assert answer.status_code in (400, 403), (path, form, answer.status_code)
        assert (it.books.users(), len(it.books.tokens())) == before
        await admin.aclose()
        await operator.aclose()


async def test_tokens_of_others_are_not_there() -> None:
    """S3: a person sees and revokes their own tokens; those of others only as admin."""
    async with world() as it, it.http("operator") as operator, it.http("admin") as admin:
        theirs = it.books.tokens("viewer")[0].id
        assert {one["user"] for one in (await operator.get("/api/v1/tokens")).json()["items"]} == {"operator"}
        assert (await operator.get("/api/v1/tokens?user=viewer")).status_code == 403
        assert (await operator.get("/api/v1/tokens?everybody=true")).status_code == 403
        assert (await operator.delete(f"/api/v1/tokens/{theirs}")).status_code == 404
        assert it.books.tokens("viewer")[0].revoked_at is None
        assert (await admin.delete(f"/api/v1/tokens/{theirs}")).status_code == 204
        async with it.http("viewer") as viewer:
            assert (await viewer.get("/api/v1/me")).status_code == 401


async def test_the_last_admin_stays() -> None:
    """Nobody takes away the only admin, so that people can still be managed."""
    async with world() as it, it.http("admin") as http:
        for body in ({"disabled": True}, {"roles": ["viewer"]}):
            assert (await http.patch("/api/v1/users/ADMIN", json=body)).status_code == 400
        await it.add_person("second", "admin")
        assert (await http.patch("/api/v1/users/admin", json={"roles": ["viewer"]})).status_code == 200


async def test_two_admins_cannot_put_each_other_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is judged in the commit: of two changes at the same time that leave no admin the later one is refused."""
    async with world() as it:
        await it.add_person("second", "admin")
        passwords = it.app.state.identify.__self__.passwords
        hash_password, hashing, hurried = passwords.hash, asyncio.Event(), asyncio.Event()

        async def told(password: str) -> str:
            hashing.set()
            await hurried.wait()
            return str(await hash_password(password))

        monkeypatch.setattr(passwords, "hash", told)
        async with it.http("admin") as first, it.http("second") as second:
            slow = asyncio.create_task(
                first.patch("/api/v1/users/second", json={"roles": ["viewer"], "password": PASSWORD})
            )
            await hashing.wait()
            quick = await second.patch("/api/v1/users/admin", json={"roles": ["viewer"]})
            hurried.set()
            assert sorted((quick.status_code, (await slow).status_code)) == [200, 400]
        assert [user.name for user in it.books.users() if "admin" in user.roles] == ["second"]


# ---------------------------------------------------------------------------- S9


async def test_a_vote_on_something_else_is_refused() -> None:
    """S9: a vote that saw another digest or revision is refused, nothing is counted, and it can be given again."""
    async with world() as it:
        run = await it.start("operator", "guarded", "x")
        asked = await it.question(run)
        async with it.http("approver") as http:
            for seen in (f"1:{'0' * 64}", f"2:{asked.digest}", asked.digest[:-1] + "0"):
                if seen in (asked.seen, asked.digest):
                    continue
                answer = await http.post(f"/api/v1/requests/{asked.id}/approve", json={"seen": seen})
                assert (answer.status_code, answer.json()["code"]) == (409, "stale-request")
                assert (await it.question(run)).responses == ()
            good = await http.post(f"/api/v1/requests/{asked.id}/approve", json={"seen": asked.seen})
        assert good.json()["status"] == "approved"


async def test_the_audit_log_names_what_was_seen_and_what_it_was() -> None:
    """S9: the record of a vote holds the digest that the person saw and the one that the request has."""
    async with world() as it:
        run = await it.start("operator", "guarded", "x")
        asked = await it.question(run)
        async with it.http("approver") as http:
            await http.post(f"/api/v1/requests/{asked.id}/approve", json={"seen": asked.seen})
            await http.post(f"/api/v1/requests/{asked.id}/approve", json={"seen": "1:beef"})
        votes = [entry for entry in it.books.audit(run=run) if entry.action == "request.vote"]
        assert [vote.detail["seen"] for vote in votes] == [asked.seen]
        assert votes[0].detail["digest"] == asked.digest
        assert (votes[0].by, votes[0].via[:6]) == ("approver", "token ")


async def test_the_form_of_a_page_names_what_it_showed() -> None:
    """S9: a form that shows an older state is refused, and the page shows the state of now."""
    async with world() as it:
        run = await it.start("operator", "guarded", "x")
        asked = await it.question(run)
        browser = await it.browser("approver")
        page = (await browser.get(f"/requests/{asked.id}")).text
        assert asked.digest in page
        token = browser.headers.pop("X-CSRF-Token")
        stale = await browser.post(
            f"/requests/{asked.id}/answer",
            data={"csrf": token, "decision": "approve", "seen": f"1:{'0' * 64}"},
            headers={"Origin": BASE},
        )
        assert stale.status_code == 409
        assert (await it.question(run)).responses == ()
        await browser.aclose()


# --------------------------------------------------------------------------- S11


async def vote(it: World, key: str, request: str, verb: str = "approve") -> Any:
    async with it.http(key) as http:
        return await http.post(f"/api/v1/requests/{request}/{verb}", json={})


async def test_nobody_approves_their_own_run() -> None:
    """S11: whoever started a run does not vote on it, by whichever token, and nothing is counted."""
    async with world() as it:
        await it.add_person("both", "operator", "approver")
        await it.add_token("other-token", "both", "approver")
        run = await it.start("both", "guarded", "x")
        asked = await it.question(run)
        for key in ("both", "other-token"):
            for verb in ("approve", "reject"):
                answer = await vote(it, key, asked.id, verb)
                assert (answer.status_code, answer.json()["code"]) == (403, "not-permitted")
        browser = await it.browser("both")
        token = browser.headers.pop("X-CSRF-Token")
        form = {"csrf": token, "decision": "approve", "seen": asked.seen}
        assert (await browser.post(f"/requests/{asked.id}/answer", data=form)).status_code == 403
        await browser.aclose()
        bulk = {"action": "approve", "requests": [{"id": asked.id}]}
        async with it.http("both") as http:
            assert (await http.post("/api/v1/requests/bulk", json=bulk)).json()["items"][0]["code"] == "not-permitted"
            assert (await http.post(f"/api/v1/runs/{run}/approve", json={})).status_code == 403
        assert (await it.question(run)).responses == ()
        assert (await vote(it, "approver", asked.id)).json()["status"] == "approved"


async def test_a_retry_or_fork_by_somebody_else_stays_the_starters_run() -> None:
    """S11: who started the origin of a run does not vote on what was made from it, nor does who made it."""
    async with world() as it:
        await it.add_person("starter", "operator", "approver")
        await it.add_person("retrier", "operator", "approver")
        run = await it.start("starter", "guarded", "x")
        async with it.http("retrier") as http:
            await http.post(f"/api/v1/runs/{run}/cancel", json={"graceful": False})
            await it.client.clock.settle()
            made = (await http.post(f"/api/v1/runs/{run}/retry", json={})).json()["id"]
        await it.client.clock.settle()
        asked = await it.question(made)
        assert (await vote(it, "starter", asked.id)).status_code == 403
        assert (await vote(it, "retrier", asked.id)).status_code == 403
        assert (await vote(it, "approver", asked.id)).status_code == 200


async def test_an_approver_by_name_may_vote_on_their_own_run() -> None:
    """S11: the code that names a person wants that person's vote; the name is compared as people are."""
    async with world() as it:
        await it.add_person("Zoë", "operator", "approver")
        run = await it.start("Zoë", "guarded-by-name", ["ZOE\u0308"])
        assert (await vote(it, "Zoë", (await it.question(run)).id)).json()["status"] == "approved"


async def test_who_is_alone_may_vote_on_their_own_run() -> None:
    """S11: where nobody else has the role there is nobody to wait for; a disabled person is nobody."""
    async with world() as it:
        await it.add_person("both", "operator", "approver")
        run = await it.start("both", "guarded", "x")
        asked = (await it.question(run)).id
        assert (await vote(it, "both", asked)).status_code == 403
        async with it.http("admin") as http:
            await http.patch("/api/v1/users/approver", json={"disabled": True})
        assert (await vote(it, "both", asked)).status_code == 200


async def test_the_server_can_be_told_to_allow_it() -> None:
    """S11: with allow_self_approval the rule is off."""
    async with world(ServerSettings(allow_self_approval=True)) as it:
        await it.add_person("both", "operator", "approver")
        run = await it.start("both", "guarded", "x")
        assert (await vote(it, "both", (await it.question(run)).id)).status_code == 200


async def test_a_role_that_is_gone_does_not_vote() -> None:
    """S11: somebody who loses the role in the middle is refused; a vote that was given stays."""
    async with world() as it:
        run = await it.start("operator", "guarded", "x")
        asked = (await it.question(run)).id
        await it.add_person("second", "approver")
        async with it.http("admin") as http:
            await http.patch("/api/v1/users/second", json={"roles": ["viewer"]})
        assert (await vote(it, "second", asked)).status_code == 403
        assert (await vote(it, "approver", asked)).status_code == 200


@pytest.mark.parametrize("twin", ["ANN", "ann ", "\uff41nn", "An\u006e"], ids=ascii)
async def test_two_spellings_are_one_person(twin: str) -> None:
    """S11: nobody gets a second vote by a name that differs in case or Unicode form only."""
    async with world() as it, it.http("admin") as http:
        await it.add_person("ann", "approver")
        answer = await http.post("/api/v1/users", json={"name": twin, "roles": ["approver"]})
        assert answer.status_code == (400 if twin != twin.strip() else 409)
        assert len([user for user in it.books.users() if "approver" in user.roles]) == 2


async def test_the_body_does_not_say_who_votes() -> None:
    """S11: a name in the body is refused; the vote is the signed-in person's."""
    async with world() as it:
        run = await it.start("operator", "guarded", "x")
        asked = (await it.question(run)).id
        async with it.http("approver") as http:
            for body in ({"by": "admin"}, {"approvedBy": "admin"}, {"person": "admin"}):
                answer = await http.post(f"/api/v1/requests/{asked}/approve", json=body)
                assert answer.status_code in (200, 422)
        stored = (await it.client._engine.find_request(asked)).responses
        assert {response.by for response in stored} <= {"approver"}
