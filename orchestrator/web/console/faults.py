"""What went wrong, as a page: a title, a sentence, and what to do. Never a payload."""

from typing import Final

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.errors import (
    BrokerUnavailable,
    ConcurrentUpdate,
    NotFound,
    RemoteProtocolError,
    StoreUnavailable,
    SubmissionRejected,
)
from orchestrator.web.console.notices import Notices, here
from orchestrator.web.console.rendering import render
from orchestrator.web.console.who import NobodyOfThisName, Person
from orchestrator.web.problems import TITLES, Problem


class ToLogin(Exception):
    """Nobody is logged in."""


class Bounce(Exception):
    """The link was on another site, so the browser kept our cookie back: our own page asks once more."""


class Refused(Exception):
    """What was asked is not done; the page says why, and what to do."""

    def __init__(self, status: int, text: str, remedy: str = "") -> None:
        """Take the HTTP status, what is wrong, and what to do about it."""
        super().__init__(text)
        self.status = status
        self.text = text
        self.remedy = remedy


#: Title and what to do, by status; what is wrong is said by whoever refuses, or by these.
_PAGES: Final[dict[int, tuple[str, str, str]]] = {
    400: (
        "That could not be read",
        "The request is not one of this page's.",
        "Go back, load the page anew, try again.",
    ),
    403: ("Not yours to do", "Your role does not allow this.", "Ask a person with that role."),
    404: (
        "There is nothing here",
        "No such page, or no such object of your merchant account.",
        "Look for it with the search; a reference from the receipt is enough.",
    ),
    405: ("There is nothing here", "This address takes forms only.", "Start from a page of the navigation."),
    408: ("That took too long", "The form did not arrive in time.", "Nothing was done. Try again."),
    409: (
        "It has changed meanwhile",
        "What you looked at is no longer as it was.",
        "Nothing was done. Go back, load the page anew, and decide again.",
    ),
    413: ("That is too much", "The form is larger than is taken.", "Nothing was done. Say it in fewer words."),
    422: ("A field is not right", "What was entered cannot be taken.", "Nothing was done. Go back and correct it."),
    429: ("Too many tries", "Too many wrong passwords came in a short time.", "Wait a few minutes, then try again."),
    500: (
        "Something is wrong on our side",
        "It has been noted in the log.",
        "If an action was asked for, look at the payment before asking again: it may have been done.",
    ),
    503: (
        "Part of the service is away",
        "The database or the broker did not answer.",
        "If an action was asked for, look at the payment before asking again: it may have been done.",
    ),
}
_FOREIGN: Final = (
    "The form did not come from a page of this console.",
    (
        "Nothing was done. Open the page itself, and send its form from there. If that is what you did, the proxy "
        "before the console changes the Host header; docs/console.md says how to set it."
    ),
)


def refusal(request: Request, status: int) -> Response:
    """Make the page of what the guard refuses."""
    text, remedy = _FOREIGN if status == 403 else ("", "")
    return fault(request, status, text, remedy)


def fault(request: Request, status: int, text: str = "", remedy: str = "") -> Response:
    """Make the page of a status."""
    person: Person | None = getattr(request.state, "person", None)
    title, usual_text, usual_remedy = _PAGES.get(status, _PAGES[500 if status >= 500 else 400])
    values = {
        "request": request,
        "path": request.url.path,
        "person": person,
        "notice": None,
        "flower_url": None,
        "live": False,
        "title": title,
        "text": _sentence(text or usual_text),
        "remedy": remedy or usual_remedy,
    }
    return Response(render("fault.html", values), status, media_type="text/html")


def _sentence(text: str) -> str:
    whole = text[:1].upper() + text[1:]
    return whole if whole.endswith((".", "!", "?")) else f"{whole}."


def answer_to(request: Request, error: Exception, notices: Notices) -> Response:
    """Say what went wrong. The one place where the console's errors become pages."""
    match error:
        case ToLogin():
            return notices.to_login(request)
        case Bounce():
            return Response(render("bounce.html", {"url": here(request)}), 200, media_type="text/html")
        case Refused():
            return fault(request, error.status, error.text, error.remedy)
        case NobodyOfThisName():
            return fault(
                request,
                403,
                "You are logged in at your company, and nobody of that name may use this console",
                "Ask an administrator for `counterfoil users add`, with the name that the log-in service gives you.",
            )
        case Problem():
            status, title = TITLES[error.slug]
            return fault(request, status, error.detail or title)
        case SubmissionRejected() | RemoteProtocolError():
            status, _ = TITLES[getattr(error, "problem", "invalid-field")]
            return fault(request, status, str(error))
        case NotFound():
            return fault(request, 404)
        case ConcurrentUpdate():
            return fault(request, 409)
        case StoreUnavailable() | BrokerUnavailable():
            return fault(request, 503)
        case RequestValidationError():
            return fault(request, 422, _first_field(error))
        case HTTPException():
            return fault(request, error.status_code)
        case _:
            return fault(request, 500)


#: What has a page of its own; everything else that escapes a view is ours to mend.
TOLD: Final[tuple[type[Exception], ...]] = (
    ToLogin,
    Bounce,
    Refused,
    NobodyOfThisName,
    Problem,
    SubmissionRejected,
    RemoteProtocolError,
    NotFound,
    StoreUnavailable,
    ConcurrentUpdate,
    BrokerUnavailable,
    RequestValidationError,
    HTTPException,
)


def _first_field(error: RequestValidationError) -> str:
    """Name the field alone: the rest of the message may quote what was entered."""
    return f"The field {str(error.errors()[0]['loc'][-1])[:80]} cannot be taken as it is"
