"""The console: one page that shows where the release stands, where a person with the token may roll back, freeze and resume."""

from __future__ import annotations

import getpass
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import jinja2
from fastapi import APIRouter, Request, Response
from starlette.responses import HTMLResponse, RedirectResponse

from clickmill.errors import UsageError
from clickmill.release import Decision, Journal, Release, ReleasePolicy, Target, freeze, resume, roll_back
from monitoring.live import Quality
from monitoring.release.inbox import Inbox

LINES = 30
"""Of the history that is shown."""


def console(
    journal: Journal,
    inbox: Inbox,
    target: Target,
    policy: ReleasePolicy,
    token: str,
    quality: Callable[[], Mapping[str, Quality]],
    saying: Callable[[], str],
) -> APIRouter:
    """`GET /` and `POST /do`. quality: by bundle, of the last look; empty without a click log. saying: reason of the last decision."""
    router = APIRouter()
    page = _template()

    def shown(error: str = "", status: int = 200) -> Response:
        entries = journal.entries
        state = entries[-1].state
        told = page.render(
            state=state,
            split=state.split,
            entries=list(reversed(entries[-LINES:])),
            alerts=inbox.firing,
            seen=dict(target.seen()[1]),
            quality=quality(),
            saying=saying(),
            now=datetime.now(UTC),
            error=error,
        )
        # The page is its own: nothing is loaded from elsewhere, nobody may frame its buttons.
        policy_words = (
            "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
        )
        return HTMLResponse(told, status, {"content-security-policy": policy_words})

    @router.get("/")
    def look() -> Response:
        return shown()

    @router.post("/do")
    async def do(request: Request) -> Response:
        # The token is in the form and in no cookie, so that no other site can press a button here.
        form = await request.form(max_fields=10)
        given, reason, action = (str(form.get(name) or "").strip() for name in ("token", "reason", "action"))
        if not secrets.compare_digest(given.encode(), token.encode()):
            return shown("the token is wrong; nothing was done", 401)
        if not reason:
            return shown("say why; it stays in the journal", 400)
        try:
            _act(journal, policy, action, reason)
        except UsageError as error:
            return shown(str(error), 409)
        return RedirectResponse("/", 303)

    return router


def _act(journal: Journal, policy: ReleasePolicy, action: str, reason: str) -> None:
    """Raises UsageError for what the state does not allow, and for an action that is none."""
    now, by = datetime.now(UTC), f"{getpass.getuser()} (console)"

    def decided(state: Release) -> Decision:
        if action == "rollback":
            return roll_back(state, policy, now=now, by=by, reason=reason)
        if action == "freeze":
            return freeze(state, now=now, by=by, reason=reason)
        if action == "resume":
            return resume(state, by=by, reason=reason)
        raise UsageError(f"there is no action {action!r}; there are rollback, freeze and resume")

    with journal.hold():
        journal.append(decided(journal.state), now)


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["short"] = lambda bundle: bundle[:12]
    environment.filters["figure"] = _figure
    environment.filters["clock"] = lambda at: f"{at:%Y-%m-%d %H:%M:%S}"
    return environment.from_string(
        (files("monitoring.release") / "templates" / "console.html.j2").read_text()
    )


def _figure(value: Any) -> str:
    return "–" if value is None else f"{value:.3f}" if isinstance(value, float) else f"{value:,}"


__all__ = ["console"]
