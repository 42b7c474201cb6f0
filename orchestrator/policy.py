"""The numbers: windows, waits, limits. Each says where it comes from.

``Policy.scaled`` divides the waits of the protocol for demonstrations and tests; connect time-outs, the read time-out
of ``/async``, ``send_by`` and the send lease are never scaled, because they bound what really happens on the wire.
"""

from dataclasses import dataclass, field
from typing import Self

from orchestrator.model import Transport

#: A claim may put its request on the wire only this long after it committed: long enough for a connect time-out of
#: 5 s, far below every answer window, so that a passed window proves the sender quiesced. Never scaled.
SEND_LEASE_S = 10.0

#: How long the platform may take to say ``ok`` to /async; the shopper is not waited for. Never scaled.
ASYNC_READ_TIMEOUT_S = 30.0

#: TCP and TLS set-up, all transports. Never scaled.
CONNECT_TIMEOUT_S = 5.0

#: A scaled read time-out of a held-open call never goes below this.
SCALED_READ_FLOOR_S = 2.0

#: One delivery of a callback, from the name's resolution to the answer's status: our choice, and what common receivers
#: are given. It bounds how long a dead receiver holds a thread. Never scaled.
CALLBACK_TIMEOUT_S = 10.0

#: Who took a telling may take this long before it is taken again: the time-out, and a resolver that does not know ours
#: (two servers, three tries of 5 s each). Never scaled.
CALLBACK_LEASE_S = 60.0

#: A question how a terminal is, by somebody who looks at a list. Never scaled: nothing waits for it but a person.
LOOK_TIMEOUT_S = 10.0

#: When a caller names no ``send_by_s``: a shopper stands at the till for about a minute.
DEFAULT_SEND_BY_S = 60
MIN_SEND_BY_S = 5
MAX_SEND_BY_S = 3600

#: When a refund names no ``send_by_s``. Nobody stands at the terminal for one that goes back to the card of its
#: payment: it may wait out a network, or the answer to what became of the payment. One without a payment prompts a
#: shopper, who also waits while a second person is fetched.
DEFAULT_REFUND_SEND_BY_S = MAX_SEND_BY_S
DEFAULT_APPROVAL_SEND_BY_S = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How long we wait for what. All in seconds."""

    #: Cloud payments end at 150 s, and are asked about then (platform documentation, cloud guide, step 4).
    #: Local payments end at 120 s and are asked about at 150 s (local guide).
    answer_window_s: float = 150.0
    #: /sync must outlive 150 s; 10 s for the answer's way back.
    sync_read_timeout_s: float = 160.0
    #: Local payments end at 120 s; likewise 10 s.
    local_read_timeout_s: float = 130.0
    #: A status check answers at once or not at all.
    status_read_timeout_s: float = 30.0
    #: First wait between status checks; it doubles while a quarter of an hour has not passed.
    check_first_s: float = 5.0
    check_doubling_until_s: float = 900.0
    #: After that once an hour, up to the 48 h for which a terminal remembers a ServiceID (platform documentation).
    check_hourly_s: float = 3600.0
    check_horizon_s: float = 48 * 3600.0
    #: Two NotFounds this far apart, both after the window: a request cannot still be in flight.
    not_found_gap_s: float = 30.0
    #: A refund's outcome comes from the books within days; past this a person looks (cells, "refunds").
    refund_overdue_s: float = 7 * 86400.0
    #: A reversal asks the platform, not a shopper: our choice, well inside the window.
    refund_read_timeout_s: float = 60.0
    #: Hearsay asks for the status, unless somebody just did.
    hearsay_quiet_s: float = 2.0
    #: The sentinel behind a conclusion from absence: growing intervals to just inside 48 h.
    sentinel_at_s: tuple[float, ...] = field(default=(300.0, 900.0, 3600.0, 21600.0, 86400.0, 169200.0))
    #: The waits after failed deliveries of a callback (docs, "callbacks"): at once, 5 s, 1 min, 5 min x 2, 10 min x 5,
    #: 1 h x 5, 6 h x 3: a receiver may be away for a night, and a day is enough to call for a person.
    tell_again_s: tuple[float, ...] = field(
        default=(5.0, 60.0, *(300.0,) * 2, *(600.0,) * 5, *(3600.0,) * 5, *(21600.0,) * 3)
    )
    #: A command that ended in a failure of ours is tried again after this, doubling to ten minutes.
    command_retry_s: float = 5.0
    #: A payment that waits behind another rings again after this, should the wake-up have been lost in a race.
    queue_backstop_s: float = 5.0

    @classmethod
    def scaled(cls, time_scale: float) -> Self:
        """Divide every wait of the protocol by ``time_scale`` (>= 1)."""
        base = cls()

        def read(value_s: float) -> float:
            return value_s if time_scale == 1 else max(SCALED_READ_FLOOR_S, value_s / time_scale)

        return cls(
            answer_window_s=base.answer_window_s / time_scale,
            sync_read_timeout_s=read(base.sync_read_timeout_s),
            local_read_timeout_s=read(base.local_read_timeout_s),
            status_read_timeout_s=read(base.status_read_timeout_s),
            check_first_s=base.check_first_s / time_scale,
            check_doubling_until_s=base.check_doubling_until_s / time_scale,
            check_hourly_s=base.check_hourly_s / time_scale,
            check_horizon_s=base.check_horizon_s / time_scale,
            not_found_gap_s=base.not_found_gap_s / time_scale,
            refund_overdue_s=base.refund_overdue_s / time_scale,
            refund_read_timeout_s=read(base.refund_read_timeout_s),
            hearsay_quiet_s=base.hearsay_quiet_s / time_scale,
            sentinel_at_s=tuple(at_s / time_scale for at_s in base.sentinel_at_s),
            tell_again_s=tuple(wait_s / time_scale for wait_s in base.tell_again_s),
        )

    def read_timeout_s(self, transport: Transport) -> float:
        """How long a payment request may wait for its answer on the connection."""
        match transport:
            case Transport.ASYNC:
                return ASYNC_READ_TIMEOUT_S
            case Transport.SYNC:
                return self.sync_read_timeout_s
            case Transport.LOCAL:
                return self.local_read_timeout_s

    def next_check_s(self, checks: int, since_sent_s: float) -> float | None:
        """The wait before the next status check, or None when only the books can tell any more.

        ``checks`` counts those that ended since the window passed; ``since_sent_s`` is the age of the request.
        """
        if since_sent_s >= self.check_horizon_s:
            return None
        doubled_s = self.check_first_s * 2 ** min(checks, 30)
        past_doubling = self.check_first_s * (2 ** min(checks + 1, 31) - 1) > self.check_doubling_until_s
        return self.check_hourly_s if past_doubling else doubled_s

    def tell_again_after_s(self, attempts: int, *, display: bool = False) -> float | None:
        """The wait after the failed delivery number ``attempts`` (from 1), or None when it was the last.

        A display text is tried twice, at once and after the first wait: an old one helps nobody.
        """
        waits_s = self.tell_again_s[:1] if display else self.tell_again_s
        return waits_s[attempts - 1] if attempts <= len(waits_s) else None

    def next_sentinel_s(self, since_concluded_s: float) -> float | None:
        """The wait before the sentinel's next look, or None after the last; a check in between moves none of them."""
        later = (at_s for at_s in self.sentinel_at_s if at_s > since_concluded_s)
        at_s = next(later, None)
        return None if at_s is None else at_s - since_concluded_s
