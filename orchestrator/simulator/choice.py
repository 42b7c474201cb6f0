"""Which scenario a payment plays. By the reference's ending, by order, by a seeded mix, else by its amount."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from orchestrator.simulator.aftermath import (
    AN_ORDINARY_WEBHOOK,
    REFUNDS,
    WEBHOOKS,
    WebhookBehaviour,
    ending,
    refund_scenario,
    without_webhook_ending,
)
from orchestrator.simulator.payment import Asked, Verdict
from orchestrator.simulator.scenarios import SCENARIOS, Scenario
from orchestrator.simulator.verdicts import by_amount

Mix = Mapping[str, float]

# For load and chaos: mostly approvals, and some of everything that an orchestrator must settle without a person.
# Left out: `starts-very-late` and `timeout`, whose answers no evidence settles, and which only a named test asks for.
_DEFAULT_MIX: Mix = MappingProxyType(
    {
        "approve": 0.79,
        "decline": 0.03,
        "cancel": 0.02,
        "silent": 0.015,
        "slow": 0.01,
        "twice": 0.01,
        "late": 0.005,
        "partial": 0.005,
        "tip": 0.005,
        "offline": 0.005,
        "wrong-pin": 0.005,
        "device-out": 0.005,
        "overdue": 0.005,
        "duplicate-notify": 0.005,
        "disorder": 0.005,
        "dies": 0.005,
        "forgets": 0.005,
        "withheld": 0.0025,
        "busy": 0.005,
        "busy-bare": 0.0025,
        "refuses-after": 0.005,
        "hangup-before": 0.005,
        "hangup-after": 0.005,
        "empty": 0.005,
        "html": 0.005,
        "truncated": 0.005,
        "reject": 0.005,
        "reject-not-connected": 0.005,
        "in-progress": 0.0025,
        "notfound-late": 0.0025,
        "starts-late": 0.0025,
        "unreachable": 0.005,
        "forged": 0.005,
        "abortable": 0.0025,
    }
)
# The same for terminals that are spoken to directly and sealed: nothing is pushed there, no gateway answers for them,
# and somebody on the network tampers with answers.
_LOCAL_MIX: Mix = MappingProxyType(
    {
        "approve": 0.795,
        "decline": 0.03,
        "cancel": 0.02,
        "silent": 0.01,
        "slow": 0.01,
        "partial": 0.005,
        "tip": 0.005,
        "offline": 0.005,
        "wrong-pin": 0.005,
        "device-out": 0.005,
        "late": 0.005,
        "overdue": 0.005,
        "dies": 0.005,
        "forgets": 0.005,
        "withheld": 0.005,
        "busy": 0.005,
        "refuses-after": 0.005,
        "hangup-before": 0.005,
        "hangup-after": 0.005,
        "empty": 0.005,
        "truncated": 0.005,
        "in-progress": 0.005,
        "unreachable": 0.005,
        "abortable": 0.005,
        "displays": 0.0025,
        "cut-after-approval": 0.0025,
        "sealed-flipped": 0.005,
        "sealed-other-version": 0.0025,
        "sealed-other-key": 0.0025,
        "sealed-truncated": 0.005,
        "sealed-plaintext": 0.005,
        "sealed-mismatch": 0.005,
        "sealed-replayed": 0.005,
        "sealed-reflected": 0.005,
    }
)
# What a result can say beside yes and no, more often than in life; with webhooks, since some are settled by the books.
_RESULTS_MIX: Mix = MappingProxyType(
    {
        "approve": 0.3,
        "decline": 0.05,
        "cancel": 0.05,
        "partial": 0.1,
        "tip": 0.1,
        "cashback": 0.05,
        "surcharge": 0.05,
        "dcc": 0.05,
        "signature-paper": 0.05,
        "signature-screen": 0.05,
        "offline": 0.05,
        "offline-refused": 0.03,
        "chip-refuses": 0.03,
        "not-offered": 0.02,
        "displays": 0.02,
    }
)
MIXES: Mapping[str, Mix] = MappingProxyType(
    {"results": _RESULTS_MIX, "clean": MappingProxyType({"approve": 1.0}), "default": _DEFAULT_MIX, "local": _LOCAL_MIX}
)


# Everything that the books alone, or a person who reads them, can still settle.
WEBHOOK_MIXES: Mapping[str, Mix] = MappingProxyType(
    {
        "default": MappingProxyType(
            {
                "webhook-missing": 0.02,
                "webhook-late": 0.02,
                "webhook-twice": 0.03,
                "webhook-disorder": 0.02,
                "webhook-batch": 0.01,
                "webhook-wrong-signature": 0.01,
                "webhook-forged": 0.01,
                "webhook-old-key": 0.02,
                "webhook-contradicts": 0.005,
                "webhook-other-amount": 0.005,
                "webhook-other-currency": 0.005,
                "webhook-other-merchant": 0.005,
                "webhook-orphan": 0.005,
                "webhook-second-try": 0.01,
                "webhook-cancelled": 0.005,
                "webhook-refunded-elsewhere": 0.005,
            }
        )
    }
)


def parse_mix(text: str) -> Mix:
    """A mix by its name, or from `name=rate,…` with rates from 0 to 1; ValueError names the mistake."""
    return _parse_mix(text, MIXES, SCENARIOS, "scenario")


def parse_webhook_mix(text: str) -> Mix:
    """The same for the behaviours of webhooks."""
    return _parse_mix(text, WEBHOOK_MIXES, WEBHOOKS, "behaviour")


def _parse_mix(text: str, mixes: Mapping[str, Mix], names: Collection[str], what: str) -> Mix:
    if text in mixes:
        return mixes[text]
    mix: dict[str, float] = {}
    for part in text.split(","):
        name, _, rate = part.partition("=")
        if name not in names:
            message = f"no mix and no {what} is called {name!r}"
            raise ValueError(message)
        mix[name] = float(rate)
    if min(mix.values()) < 0 or sum(mix.values()) > 1 + 1e-9:
        message = "rates are from 0 to 1, and not more than 1 together"
        raise ValueError(message)
    return MappingProxyType(mix)


def from_mix(mix: Mix, seed: int, reference: str) -> str | None:
    """The scenario that seed and reference fix, whatever came before; None: the mix leaves it to the amount."""
    digest = hashlib.sha256(f"{seed}:{reference}".encode("utf-8", "replace")).digest()
    left = int.from_bytes(digest[:8]) / 2**64
    for name, rate in mix.items():
        left -= rate
        if left < 0:
            return name
    return None


def from_ending(reference: str) -> str | None:
    """The longest scenario name that the reference ends in, after a hyphen; a webhook's behaviour may come after it."""
    scenario_part = without_webhook_ending(reference)
    ends = [name for name in SCENARIOS if scenario_part.endswith(f"-{name}")]
    return max(ends, key=len, default=None)


@dataclass
class Choice:
    """Chooses the scenario of each payment."""

    seed: int
    mix: Mix
    by_reference: dict[str, str] = field(default_factory=dict)
    by_terminal: dict[str, str] = field(default_factory=dict)
    webhook_mix: Mix = field(default_factory=dict)
    """Rates of webhook behaviours; what is left is ordinary."""

    def scenario(self, asked: Asked) -> str:
        """The name of the scenario; empty when the amount alone decides."""
        return (
            from_ending(asked.reference)
            or self._ordered(asked.reference)
            or self.by_terminal.get(asked.poi_id)
            or from_mix(self.mix, self.seed, asked.reference)
            or ""
        )

    def _ordered(self, reference: str) -> str:
        ordered = self.by_reference.get(reference, "")
        return ordered if ordered in SCENARIOS else ""

    def behaviour(self, reference: str) -> WebhookBehaviour:
        """How the webhooks of a payment or refund with this reference behave."""
        ordered = self.by_reference.get(reference, "")
        name = (
            ending(WEBHOOKS, reference)
            or (ordered if ordered in WEBHOOKS else "")
            or from_mix(self.webhook_mix, self.seed, f"webhook:{reference}")
        )
        return WEBHOOKS[name] if name else AN_ORDINARY_WEBHOOK

    def refund(self, reference: str) -> str:
        """The name of the scenario of a refund; empty: an ordinary one."""
        ordered = self.by_reference.get(reference, "")
        return refund_scenario(reference) or (ordered if ordered in REFUNDS else "")


AS_THE_AMOUNT_SAYS = Scenario("approved, or what the amount's last three digits force")


def played(name: str) -> Scenario:
    """The scenario of this name; an empty name is the amount's."""
    return SCENARIOS[name] if name else AS_THE_AMOUNT_SAYS


def verdict(name: str, asked: Asked) -> Verdict:
    """How the payment will end in this scenario."""
    return played(name).verdict or by_amount(asked)
