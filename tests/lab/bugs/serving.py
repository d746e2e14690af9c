"""Bugs of the server: who may do what, what leaves it, and what is streamed."""

from __future__ import annotations

from tests.lab.bugs.shape import Bug, Cases, Node

_SECURITY = "tests/server/security/"

BUGS = (
    Bug(
        "who started a run may approve it",
        "somebody approves their own request for money",
        "B19",
        "server/identity.py",
        'if serving.settings.allow_self_approval or asked.kind != "approval" or person in named:',
        "if person:",
        Node(_SECURITY + "test_objects.py::test_nobody_approves_their_own_run"),
        r"KeyError: 'code'",
    ),
    Bug(
        "a route asks for too little",
        "whoever may look may approve",
        "S1",
        "server/routes/requests.py",
        "Answerer = Annotated[Principal, allow(Permission.ANSWER)]",
        "Answerer = Annotated[Principal, allow(Permission.READ)]",
        Node(_SECURITY + "test_routes.py::test_who_may_only_look_changes_nothing"),
        r"/approve",
    ),
    Bug(
        "a route declares no permission",
        "anybody on the network may read the inbox",
        "S1",
        "server/routes/requests.py",
        "Reader = Annotated[Principal, allow(Permission.READ)]",
        "Reader = Annotated[str, Query()]",
        Node(_SECURITY + "test_routes.py::test_every_route_declares_its_permission"),
        r"GET /api/v1/requests",
    ),
    Bug(
        "a page of another site may change things",
        "looking at a bad page approves what is in the inbox",
        "S5",
        "server/identity.py",
        "                await csrf.check_token(request, request.state.csrf)\n",
        "                pass\n",
        Node(_SECURITY + "test_browsers.py::test_a_cookie_alone_changes_nothing"),
        r"303 == 403",
    ),
    Bug(
        "viewers see secrets",
        "whoever may look finds passwords in inputs and logs",
        "S18",
        "server/redaction.py",
        "return principal.roles <= {Role.VIEWER}",
        "return not principal.roles",
        Node("tests/server/api/test_streams.py::test_viewers_do_not_get_secrets"),
        r"'hunter2' is contained here",
    ),
    Bug(
        "a reconnect skips events",
        "a page that was away for a moment shows a state that is over, for ever",
        "B37",
        "server/stream.py",
        "events = await self._engine.read_events(run_id, after, _PAGE)",
        "events = await self._engine.read_events(run_id, after + (after > 0), _PAGE)",
        Node("tests/server/api/test_streams.py::test_a_stream_that_is_far_behind_reads_pages"),
        r"assert",
    ),
    Bug(
        "numbers that are none are taken",
        "a value is stored that no reader of JSON can read",
        "B39",
        "_json.py",
        "if isinstance(value, float) and not math.isfinite(value):",
        "if isinstance(value, float) and math.isnan(value):",
        Cases("fuzz", 5),
        r"1e400",
    ),
)
