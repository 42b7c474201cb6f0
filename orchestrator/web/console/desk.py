"""What views are given: who is logged in, what their role lets them do, and how a page is made."""

import hmac
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from orchestrator.errors import StoreUnavailable
from orchestrator.keys import Role
from orchestrator.store.people import PeopleStore
from orchestrator.web.console.faults import Bounce, Refused, ToLogin
from orchestrator.web.console.notices import Notices
from orchestrator.web.console.rendering import render
from orchestrator.web.console.who import NobodyOfThisName, Person, Who
from orchestrator.web.services import Services

__all__ = ["Desk", "Person", "Refused"]

#: Fields of the largest form, with room.
_FIELDS_MAX: Final = 200

Dependency = Callable[[Request], Awaitable[Person]]


class Desk:
    """One for each process, shared by all views."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.settings = services.counterfoil.settings

    @cached_property
    def people(self) -> PeopleStore:
        """People and sessions."""
        return PeopleStore(self.services.counterfoil.database)

    @cached_property
    def who(self) -> Who:
        """Who asks."""
        return Who(self.people, self.settings)

    @cached_property
    def notices(self) -> Notices:
        """What is said once."""
        return Notices(self.services.counterfoil.tag_keys, secure=self.settings.environment == "live")

    def sees(self, role: Role = Role.VIEWER) -> Dependency:
        """A dependency for pages that are read: the person, whose role is this one or includes it."""

        async def dependency(request: Request) -> Person:
            return await self._person(request, role)

        return dependency

    def acts(self, *roles: Role) -> Dependency:
        """A dependency for forms: the person, of one of these roles, if the form is from a page that was made for them.

        ``guard`` has refused what another site sent; the field ``csrf`` proves that the page was ours to this person.
        """

        async def dependency(request: Request) -> Person:
            person = await self._person(request, *roles)
            form = await request.form(max_files=0, max_fields=_FIELDS_MAX)
            given = form.get("csrf")
            if not isinstance(given, str) or not hmac.compare_digest(given.encode(), person.csrf.encode()):
                raise Refused(
                    403,
                    "The form is from before your last login",
                    "Nothing was done. Go back, load the page anew, and send it again.",
                )
            return person

        return dependency

    def may_stay(self, request: Request) -> Callable[[], Awaitable[bool]]:
        """Say whether whoever follows something may go on: while they are logged in, also when nobody can tell."""

        async def ask() -> bool:
            try:
                return await self.services.run(self.who, request) is not None
            except NobodyOfThisName:
                return False
            except StoreUnavailable:
                return True

        return ask

    def page(
        self, request: Request, person: Person | None, template: str, /, status: int = 200, **values: Any
    ) -> Response:
        """Make a page. A part of an open page that asks anew gets the same; htmx takes what it needs of it."""
        part = "hx-request" in request.headers
        notice = None if part else self.notices.read(request)
        shared = {
            "request": request,
            "path": request.url.path,
            "person": person,
            "csrf": person.csrf if person else "",
            "notice": notice,
            "live": self.settings.environment == "live",
            "flower_url": getattr(self.settings, "flower_url", None),
        }
        response = Response(render(template, {**shared, **values}), status, media_type="text/html")
        if notice is not None:
            self.notices.forget(response)
        return response

    def done(self, to: str, said: str, *, failed: bool = False) -> Response:
        """Go back to a page, which says once what was done."""
        return self.notices.redirect(to, said, failed=failed)

    async def _person(self, request: Request, *roles: Role) -> Person:
        person = await self.services.run(self.who, request)
        if person is None:
            elsewhere = request.headers.get("sec-fetch-site") in {"cross-site", "same-site"}
            raise Bounce if elsewhere and request.method == "GET" else ToLogin
        request.state.person = person
        if not any(map(person.role.includes, roles)):
            wanted = " or ".join(roles)
            raise Refused(
                403,
                f"This needs the role {wanted}, and yours is {person.role.value}",
                f"Ask somebody with the role {wanted}, or an administrator for that role.",
            )
        return person
