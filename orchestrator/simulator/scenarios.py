"""THE TABLE of behaviours: what a terminal and its cloud do with one payment, as data.

All times are in protocol seconds and are divided by the time scale. A scenario says what the POST is answered, when the
terminal starts, how the payment ends, when its result is pushed, and what status checks are told.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from orchestrator.simulator import verdicts
from orchestrator.simulator.aftermath import AUTHORISED, AUTHORISED_LATER, REFUSED_LATER, TAKEN_BACK, Fact
from orchestrator.simulator.payment import CLOUD_WINDOW_S, Verdict

# An orchestrator asks for about five minutes, then aborts; a dialogue that waits for status checks waits longer.
LONGEST_DIALOGUE_S = 600.0


class HttpAnswer(Enum):
    """What the POST of the payment is answered."""

    NORMAL = auto()
    HANG_UP = auto()
    INTERNAL_ERROR = auto()
    EMPTY = auto()
    HTML = auto()
    TRUNCATED = auto()
    REJECT_NO_RESPONSE = auto()
    REJECT_NOT_CONNECTED = auto()


class StatusAnswer(Enum):
    """What a status check is told."""

    TRUTH = auto()
    IN_PROGRESS = auto()
    NOT_FOUND = auto()
    UNREACHABLE = auto()


class Flaw(Enum):
    """What is wrong with the sealed answer on the payment's own connection; a request in clear is answered well."""

    NONE = auto()
    FLIPPED_BIT = auto()
    OTHER_VERSION = auto()
    OTHER_KEY = auto()
    TRUNCATED = auto()
    PLAINTEXT = auto()
    HEADER_MISMATCH = auto()
    REPLAYED = auto()
    REFLECTED = auto()


# When the result is pushed: seconds after the payment ended.
NEVER: tuple[float, ...] = ()
ONCE = (0.0,)
TWICE = (0.0, 1.0)
THREE_AT_ONCE = (0.0, 0.0, 0.0)
LATE = (CLOUD_WINDOW_S + 10,)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One named behaviour. The defaults are those of a terminal that works."""

    line: str
    takes: bool = True
    """False: the request never reaches the terminal."""
    http_answer: HttpAnswer = HttpAnswer.NORMAL
    starts_after_s: float = 0.0
    """How long the request is under way; the terminal does not know of it before."""
    forgets: bool = False
    """The terminal loses the request before it shows anything."""
    busy_elsewhere: bool = False
    """Somebody else's dialogue is running on the terminal."""
    shopper_s: float | None = None
    """How long the shopper takes; None: as configured."""
    shopper_from_window_s: float | None = None
    """The shopper acts so long after the answer window's end, or before it when negative; in place of `shopper_s`."""
    waits_for_checks: int = 0
    """The dialogue goes on until this many status checks came."""
    verdict: Verdict | None = None
    """How it ends; None: as the amount says."""
    notify_after_s: tuple[float, ...] = ONCE
    held_until_next: bool = False
    """The result is pushed only when the terminal has taken its next payment, or 20 s later."""
    shows: tuple[str, ...] = ()
    """What the terminal displays while the shopper pays, with `--display`; the first and the last step come always."""
    flaw: Flaw = Flaw.NONE
    cuts: bool = False
    """The connection of the request is cut when the payment has ended, and nothing is pushed."""
    offline_s: float = 0.0
    """How long the terminal is unreachable for everybody after this payment ended."""
    forges: bool = False
    """A forged success is pushed while the shopper is still busy."""
    display_after_result: bool = False
    """A display notification of an earlier step comes after the result."""
    first_checks: tuple[StatusAnswer, ...] = ()
    """What the first status checks are told."""
    later_checks: StatusAnswer = StatusAnswer.TRUTH
    facts: tuple[Fact, ...] = ()
    """What the platform's books learn; none: what the ending says."""


_APPROVED = verdicts.APPROVED
_LOST = StatusAnswer.UNREACHABLE

SCENARIOS: dict[str, Scenario] = {
    "approve": Scenario("approved, charged, answered once", verdict=_APPROVED),
    "decline": Scenario("refused by the issuer", verdict=verdicts.DECLINED),
    "cancel": Scenario("cancelled by the shopper", verdict=verdicts.CANCELLED),
    "wrong-pin": Scenario("refused because of a wrong PIN", verdict=verdicts.WRONG_PIN),
    "device-out": Scenario("the terminal is out of order", verdict=verdicts.DEVICE_OUT),
    "partial": Scenario("approved for 60 % of the amount", verdict=verdicts.PARTIALLY_APPROVED),
    "tip": Scenario("approved with a tip of 20 % on top", verdict=verdicts.APPROVED_WITH_TIP),
    "cashback": Scenario("approved with half the amount in cash on top", verdict=verdicts.APPROVED_WITH_CASHBACK),
    "surcharge": Scenario("approved with a surcharge of 2 % on top", verdict=verdicts.APPROVED_WITH_SURCHARGE),
    "dcc": Scenario("approved; the shopper pays in pounds", verdict=verdicts.APPROVED_CONVERTED),
    "signature-paper": Scenario(
        "approved; the cashier's receipt must be signed", verdict=verdicts.APPROVED_SIGNED_ON_PAPER
    ),
    "signature-screen": Scenario("approved; signed on the screen", verdict=verdicts.APPROVED_SIGNED_ON_SCREEN),
    "not-offered": Scenario("refused: not permitted on this account", verdict=verdicts.NOT_OFFERED),
    "offline": Scenario(
        "approved offline, OnlineFlag false; the books agree a minute later",
        verdict=verdicts.APPROVED_OFFLINE,
        facts=(AUTHORISED_LATER,),
    ),
    "offline-refused": Scenario(
        "approved offline, OnlineFlag false; refused by the issuer a minute later: no money",
        verdict=verdicts.APPROVED_OFFLINE,
        facts=(REFUSED_LATER,),
    ),
    "chip-refuses": Scenario(
        "authorised by the issuer, then refused by the card itself; the books take the approval back",
        verdict=verdicts.REFUSED_BY_CARD,
        facts=(AUTHORISED, TAKEN_BACK),
    ),
    "slow": Scenario("approved after a shopper who takes 45 s", verdict=_APPROVED, shopper_s=45),
    "silent": Scenario(
        "approved and charged, never pushed; a status check works", verdict=_APPROVED, notify_after_s=NEVER
    ),
    "late": Scenario("approved, pushed only after the answer window", verdict=_APPROVED, notify_after_s=LATE),
    "overdue": Scenario(
        "the shopper pays after the answer window; InProgress until then",
        verdict=_APPROVED,
        shopper_from_window_s=15,
    ),
    "twice": Scenario("approved, answered twice, one second apart", verdict=_APPROVED, notify_after_s=TWICE),
    "duplicate-notify": Scenario(
        "approved, the answer pushed three times at once", verdict=_APPROVED, notify_after_s=THREE_AT_ONCE
    ),
    "disorder": Scenario(
        "approved, answered after the terminal's next payment began, then a display message of an earlier step",
        verdict=_APPROVED,
        held_until_next=True,
        display_after_result=True,
    ),
    "dies": Scenario(
        "approved and charged, then the terminal dies: no push, unreachable for 20 s and two checks, then Repeated",
        verdict=_APPROVED,
        notify_after_s=NEVER,
        offline_s=20,
        first_checks=(_LOST, _LOST),
    ),
    "forgets": Scenario(
        "the terminal loses the request: no prompt, no charge, status NotFound", forgets=True, notify_after_s=NEVER
    ),
    "withheld": Scenario(
        "approved and charged, never pushed, status always unreachable",
        verdict=_APPROVED,
        notify_after_s=NEVER,
        later_checks=_LOST,
    ),
    "busy": Scenario(
        "refused: somebody else's dialogue is running; remembered", busy_elsewhere=True, verdict=verdicts.BUSY
    ),
    "busy-bare": Scenario("refused as busy, with Response alone", busy_elsewhere=True, verdict=verdicts.BUSY_BARE),
    "refuses-after": Scenario(
        "taken, then HTTP 500; the payment goes on and is pushed",
        verdict=_APPROVED,
        http_answer=HttpAnswer.INTERNAL_ERROR,
    ),
    "hangup-before": Scenario(
        "the connection closes and nothing is taken", takes=False, http_answer=HttpAnswer.HANG_UP
    ),
    "hangup-after": Scenario(
        "taken, then the connection closes; goes on and is pushed", verdict=_APPROVED, http_answer=HttpAnswer.HANG_UP
    ),
    "empty": Scenario(
        "taken, then an empty 200; goes on and is pushed", verdict=_APPROVED, http_answer=HttpAnswer.EMPTY
    ),
    "html": Scenario(
        "taken, then a 200 with HTML; goes on and is pushed", verdict=_APPROVED, http_answer=HttpAnswer.HTML
    ),
    "truncated": Scenario(
        "taken, then half a body; goes on and is pushed", verdict=_APPROVED, http_answer=HttpAnswer.TRUNCATED
    ),
    "reject": Scenario(
        "taken, then the Reject event that nothing came back from the terminal; goes on and is pushed",
        verdict=_APPROVED,
        http_answer=HttpAnswer.REJECT_NO_RESPONSE,
    ),
    "reject-not-connected": Scenario(
        "not taken: the Reject event of a terminal that is not connected",
        takes=False,
        http_answer=HttpAnswer.REJECT_NOT_CONNECTED,
    ),
    "in-progress": Scenario(
        "InProgress for three status checks, then approved; the push is lost",
        verdict=_APPROVED,
        waits_for_checks=3,
        notify_after_s=NEVER,
    ),
    "notfound-late": Scenario(
        "under way for 120 s (status NotFound), then approved and pushed inside the window",
        verdict=_APPROVED,
        starts_after_s=120,
    ),
    "starts-late": Scenario(
        "under way until 15 s after the window (status NotFound), then approved and pushed",
        verdict=_APPROVED,
        starts_after_s=CLOUD_WINDOW_S + 15,
    ),
    "starts-very-late": Scenario(
        "under way for 400 s, longer than anybody may assume (status NotFound), then approved and pushed",
        verdict=_APPROVED,
        starts_after_s=400,
    ),
    "unreachable": Scenario(
        "approved, the push is lost, three status checks are told UnreachableHost, then Repeated",
        verdict=_APPROVED,
        notify_after_s=NEVER,
        first_checks=(_LOST, _LOST, _LOST),
    ),
    "forged": Scenario(
        "declined, after a forged success with a wrong tag was pushed", verdict=verdicts.DECLINED, forges=True
    ),
    "abortable": Scenario(
        "the shopper does nothing and cancels 10 s before the window ends; waits for an abort",
        verdict=verdicts.CANCELLED,
        shopper_from_window_s=-10,
    ),
    "timeout": Scenario(
        "nothing until the platform's own time-out, then Failure/Communication timeout",
        verdict=verdicts.TIMED_OUT,
        shopper_from_window_s=0,
    ),
    "displays": Scenario(
        "approved, and each step of the dialogue is displayed",
        verdict=_APPROVED,
        shows=(
            "CARD_INSERTED",
            "ASK_GRATUITY",
            "GRATUITY_ENTERED",
            "WAIT_FOR_PIN",
            "PIN_ENTERED",
            "PRINT_RECEIPT",
            "CARD_REMOVED",
        ),
    ),
    "cut-after-approval": Scenario(
        "approved and charged, then the connection is cut without an answer, and nothing is pushed",
        verdict=_APPROVED,
        notify_after_s=NEVER,
        cuts=True,
    ),
    "sealed-flipped": Scenario(
        "approved; one bit of the sealed answer is flipped", verdict=_APPROVED, flaw=Flaw.FLIPPED_BIT
    ),
    "sealed-other-version": Scenario(
        "approved; the sealed answer names a version of the key that nobody has",
        verdict=_APPROVED,
        flaw=Flaw.OTHER_VERSION,
    ),
    "sealed-other-key": Scenario(
        "approved; the answer is sealed with another passphrase under the same name",
        verdict=_APPROVED,
        flaw=Flaw.OTHER_KEY,
    ),
    "sealed-truncated": Scenario(
        "approved; the sealed answer ends in the middle of its JSON", verdict=_APPROVED, flaw=Flaw.TRUNCATED
    ),
    "sealed-plaintext": Scenario(
        "declined; a forged approval in clear answers a sealed request",
        verdict=verdicts.DECLINED,
        flaw=Flaw.PLAINTEXT,
    ),
    "sealed-mismatch": Scenario(
        "declined; an older sealed approval comes back under this payment's clear header",
        verdict=verdicts.DECLINED,
        flaw=Flaw.HEADER_MISMATCH,
    ),
    "sealed-replayed": Scenario(
        "declined; the sealed approval of an older payment comes back as it was",
        verdict=verdicts.DECLINED,
        flaw=Flaw.REPLAYED,
    ),
    "sealed-reflected": Scenario(
        "declined; the request's own envelope comes back as the answer",
        verdict=verdicts.DECLINED,
        flaw=Flaw.REFLECTED,
    ),
}
