"""What can become of a payment at the terminal, and which verdict an amount forces on the test platform."""

from __future__ import annotations

from orchestrator.simulator.payment import Asked, Verdict


def _refused(message: str, reason: str, condition: str = "Refusal") -> Verdict:
    return Verdict("Failure", condition, message, reason)


APPROVED = Verdict("Success")
PARTIALLY_APPROVED = Verdict("Partial", refusal_reason="10 Partially approved", share_percent=60)
APPROVED_WITH_TIP = Verdict("Success", tip_percent=20)
APPROVED_WITH_ASKED_TIP = Verdict("Success", tip_percent=10)
APPROVED_WITH_CASHBACK = Verdict("Success", cashback_percent=50)
APPROVED_WITH_SURCHARGE = Verdict("Success", surcharge_percent=2)
APPROVED_CONVERTED = Verdict("Success", converts=True)
APPROVED_SIGNED_ON_PAPER = Verdict("Success", signature="paper")
APPROVED_SIGNED_ON_SCREEN = Verdict("Success", signature="screen")
APPROVED_OFFLINE = Verdict("Success", online=False)
DECLINED = _refused("DECLINED", "05 Do not honor")
REFUSED_BY_CARD = _refused("DECLINED", "Card declined online approval")
NOT_ENOUGH_BALANCE = _refused("NOT_ENOUGH_BALANCE", "210 Not enough balance")
WRONG_PIN = _refused("INVALID_PIN", "129 Invalid online PIN", "WrongPIN")
INVALID_CARD = _refused("INVALID_CARD", "214 Declined online", "InvalidCard")


def _without_host(condition: str, message: str) -> Verdict:
    return Verdict("Failure", condition, message, message, asked_host=False)


CANCELLED = _without_host("Cancel", "108 Shopper cancelled tx")
ABORTED = _without_host("Aborted", "104 Merchant cancelled tx")
TIMED_OUT = _without_host("Communication timeout", "Communication timeout")
DEVICE_OUT = _without_host("DeviceOut", "Device out of order")
BUSY = Verdict("Failure", "Busy", "Forbidden Request, Service Dialogue PaymentRequest is in Progress", asked_host=False)
BUSY_BARE = Verdict("Failure", "Busy", "Busy", asked_host=False, bare=True)
NO_HOST = Verdict("Failure", "UnreachableHost", "Unreachable host", "Acquirer unreachable", asked_host=False)
NOT_OFFERED = Verdict("Failure", "NotAllowed", "Transaction type not allowed", asked_host=False)
REPEATED_SERVICE_ID = Verdict("Failure", "NotAllowed", "SaleID and ServiceID were already used", asked_host=False)

# What a terminal answers while it is occupied with something else.
BY_STATE = {"busy": BUSY, "maintenance": DEVICE_OUT, "no-host": NO_HOST}

# The last three digits of the amount in minor units force a verdict.
# Source: https://docs.adyen.com/point-of-sale/testing-pos-payments;
# reasons from github.com/adyen-examples/adyen-mock-terminal-api
BY_LAST_DIGITS: dict[int, Verdict] = {
    121: _refused("CANCELLED", ""),
    122: _refused("ACQUIRER_FRAUD", ""),
    123: _refused("DECLINED", ""),
    124: NOT_ENOUGH_BALANCE,
    125: _refused("BLOCK_CARD", "199 Card blocked"),
    126: _refused("CARD_EXPIRED", "228 Card expired"),
    127: _refused("INVALID_AMOUNT", "214 Declined online"),
    128: INVALID_CARD,
    134: WRONG_PIN,
    135: _refused("PIN_TRIES_EXCEEDED", "128 Online PIN tries exceeded"),
    136: _refused("ISSUER_UNAVAILABLE", "207 Issuer unavailable"),
    137: _refused("WITHDRAWAL_AMOUNT_EXCEEDED", "211 Withdrawal amount exceeded"),
}
_BALANCE_TOO_LOW = 139


def by_amount(asked: Asked) -> Verdict:
    """The verdict that the amount forces; approved for every other amount, with a tip when one was asked for."""
    digits = asked.amount_minor % 1000
    if digits == _BALANCE_TOO_LOW:
        return (
            PARTIALLY_APPROVED if asked.acquirer.has_tender_option("AllowPartialAuthorisation") else NOT_ENOUGH_BALANCE
        )
    approved = APPROVED_WITH_ASKED_TIP if asked.acquirer.has_tender_option("AskGratuity") else APPROVED
    return BY_LAST_DIGITS.get(digits, approved)
