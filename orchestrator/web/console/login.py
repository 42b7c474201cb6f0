"""``/console/login`` and ``/console/logout``."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Final

import structlog
from fastapi import APIRouter, Depends, Form, Request
from starlette.responses import RedirectResponse, Response

from orchestrator.keys import Role, digest_of
from orchestrator.passwords import PASSWORD_CHARACTERS_MAX, fits
from orchestrator.store.people import SESSION_MAX_S
from orchestrator.web.console.desk import Desk, Person
from orchestrator.web.console.guesses import PER_NAME_WITHIN_S, Guesses
from orchestrator.web.console.notices import inside
from orchestrator.web.console.who import COOKIE, PATH, new_secret, tidy_name

log = structlog.get_logger()

#: Passwords that are checked at once: each takes 32 MiB and a core for some 0.2 s; the rest of the product goes on.
_CHECKS_AT_ONCE: Final = 2


class Doorkeeper:
    """Checks names and passwords, and opens sessions."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._threads = ThreadPoolExecutor(_CHECKS_AT_ONCE, "passwords")

    async def __call__(self, name: str, password: str) -> str | None:
        """A token that nobody had before; None where name and password do not go together."""
        run, people = self._desk.services.run, self._desk.people
        row = await run(people.by_name, name)
        stored = row["password_hash"] if row else None
        right = await asyncio.get_running_loop().run_in_executor(self._threads, fits, password, stored)
        if row is not None and right:
            token = new_secret()
            if await run(people.open_session, digest_of(token), row["id"], stored, new_secret()):
                log.info("console_login", person_id=str(row["id"]))
                return token
        log.warning("console_login_refused", person_id=str(row["id"]) if row else None)
        return None


def router(desk: Desk) -> APIRouter:
    """Make the routes."""
    routes = APIRouter(include_in_schema=False)
    open_session = Doorkeeper(desk)
    guesses = Guesses()

    def form(request: Request, target: str, status: int = 200, wrong: str = "", name: str = "") -> Response:
        return desk.page(request, None, "login.html", status, next=inside(target), wrong=wrong, name=name)

    @routes.get("/console/login")
    async def login(request: Request, next: str = PATH) -> Response:  # noqa: A002  -- the address says `next`
        """Ask for name and password; who is logged in already goes on."""
        person = await desk.services.run(desk.who, request)
        return form(request, next) if person is None else RedirectResponse(inside(next), 303)

    @routes.post("/console/login")
    async def log_in(
        request: Request,
        name: Annotated[str, Form(max_length=200)] = "",
        password: Annotated[str, Form(max_length=PASSWORD_CHARACTERS_MAX)] = "",
        target: Annotated[str, Form(alias="next", max_length=2_000)] = PATH,
    ) -> Response:
        """Check them, and open a session: one answer for an unknown name and for a wrong password."""
        tidy = tidy_name(name)
        if not guesses.allowed(tidy):
            wait = form(request, target, 429, "Too many tries. Wait five minutes, then try again.", name)
            wait.headers["Retry-After"] = f"{PER_NAME_WITHIN_S:.0f}"
            return wait
        token = await open_session(tidy, password)
        if token is None:
            return form(request, target, 401, "That name and password do not go together.", name)
        guesses.right(tidy)
        before = request.cookies.get(COOKIE)
        if before:
            await desk.services.run(desk.people.end_session, digest_of(before))
        response = RedirectResponse(inside(target), 303)
        _keep(desk, request, response, token, SESSION_MAX_S)
        return response

    @routes.post("/console/logout")
    async def log_out(request: Request, person: Annotated[Person, Depends(desk.acts(Role.VIEWER))]) -> Response:
        """End the session."""
        token = request.cookies.get(COOKIE)
        if token:
            await desk.services.run(desk.people.end_session, digest_of(token))
        response = RedirectResponse("/console/login", 303)
        _keep(desk, request, response, "", 0)
        return response

    return routes


def _keep(desk: Desk, request: Request, response: Response, token: str, seconds: int) -> None:
    """Have the browser keep the token: out of reach of scripts and of other sites, and off plain lines.

    Behind a proxy that ends TLS the browser's own word says so; ``guard`` has compared it with the host.
    """
    https = request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")
    secure = https or desk.settings.environment == "live"
    response.set_cookie(COOKIE, token, max_age=seconds, path=PATH, httponly=True, samesite="strict", secure=secure)
