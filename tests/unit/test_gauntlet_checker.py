"""The gauntlet's judge can say no: a world without fault passes, and each way of doctoring it is found."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from gauntlet import chain
from gauntlet.checker import judge
from gauntlet.dump import Row

POI_ID = "V400m-324000001"
AT = "2026-01-31T12:00:0{}.000000Z"


class Told:
    """Three payments as the witnesses tell them: one approved, one declined, one whose evidence was all withheld."""

    def __init__(self) -> None:
        self.client: list[Row] = []
        self.ledger: list[Row] = []
        self.data: dict[str, list[Row]] = {
            name: [] for name in ("payments", "journal", "commands", "alarms", "rejections", "strays")
        }
        self.queued: dict[str, int] = {}
        self._payment("approved", Result="Success")
        self._payment("declined", Result="Failure")
        self._payment("withheld", Result=None)

    def row(self, name: str) -> Row:
        return next(row for row in self.data["payments"] if row["reference"] == name)

    def lines(self, name: str) -> list[Row]:
        return [line for line in self.data["journal"] if line["payment_id"] == f"id-{name}"]

    def in_ledger(self, name: str, kind: str) -> Row:
        return next(line for line in self.ledger if line["kind"] == kind and line["reference"] == name)

    def seal(self, name: str) -> None:
        """Give a payment's journal the hashes that it would have, had it been written so."""
        previous = ""
        for line in self.lines(name):
            line["detail_hash"] = chain.detail_hash(line)
            line["hash"] = previous = chain.line_hash(previous, line)
        self.row(name)["journal_hash"] = previous

    def _payment(self, name: str, Result: str | None) -> None:  # noqa: N803  # the wire's spelling
        ids = {"poi_id": POI_ID, "sale_id": "counterfoil", "service_id": f"s-{name}", "reference": name}
        psp = f"PSP-{name}"
        asked = {"reference": name, "poi_id": POI_ID, "amount": {"currency": "EUR", "value": 1050}}
        self.client.append(
            {"kind": "answered", "role": "submission", "key": name, "status": 201, "id": f"id-{name}", "asked": asked}
        )
        self.ledger += [
            {"kind": "request", "category": "Payment", "taken": True, "at": AT.format(1), "scenario": "", **ids},
            {"kind": "prompt", "at": AT.format(1), **ids},
        ]
        charged = Result != "Failure"
        end = {"result": Result or "Success", "error_condition": "" if charged else "Refusal", "psp_reference": psp}
        money = {"amount_minor": 1050, "currency": "EUR"} if charged else {}
        self.ledger.append({"kind": "charge" if charged else "no_charge", "at": AT.format(2), **ids, **end, **money})
        if Result is None:
            about = {"poi_id": POI_ID, "service_id": "t1", "about_service_id": f"s-{name}", "reference": name}
            self.ledger.append({"kind": "status", "answer": "unreachable", **about})
            self.data["commands"].append({"payment_id": f"id-{name}", "kind": "check_status"})
        else:
            self.ledger.append({"kind": "notification", "what": "PaymentResponse", "status": 200, **ids})
        self._believe(name, ids, end if Result else None)

    def _believe(self, name: str, ids: Row, end: Row | None) -> None:
        charged = end is not None and end["result"] == "Success"
        self.data["payments"].append(ids | {
            "id": f"id-{name}", "idempotency_key": name, "currency": "EUR", "amount_minor": 1050, "override_by": None,
            "authorised_minor": 1050 if charged else None, "psp_reference": end and end["psp_reference"],
            "state": "confirmed" if end else "unknown", "outcome": end and ("approved" if charged else "declined"),
            "reason": None if end else "no_answer", "sequence": 3, "sentinel": False, "holds_terminal": None,
            "send_by": AT.format(9), "sent_at": AT.format(1), "concluded_at": AT.format(3) if end else None,
        })  # fmt: skip
        detail = {key: value for key, value in end.items() if value} | {"authentic": True} if end else {}
        last = ("result_reported", "confirmed", detail) if end else ("answer_window_passed", "unknown", {})
        story: list[tuple[str, str | None, str, Row]] = [
            ("submission_accepted", None, "pending", {}),
            ("send_started", "pending", "pending", {}),
            (last[0], "pending", last[1], last[2]),
        ]
        for sequence, (evidence, before, after, shown) in enumerate(story, 1):
            self.data["journal"].append({
                "payment_id": f"id-{name}", "sequence": sequence, "at": AT.format(sequence), "evidence": evidence,
                "event": evidence, "before": before, "after": after, "digest": None, "salt": "00", "detail": shown,
            })  # fmt: skip
        self.seal(name)

    def violations(self) -> set[str]:
        return {violation.rule for violation in judge(self.client, self.data, self.ledger, self.queued)}


def second_request(told: Told) -> None:
    told.ledger.append(deepcopy(told.in_ledger("approved", "request")))


def request_of_nobody(told: Told) -> None:
    told.ledger.append(told.in_ledger("approved", "request") | {"service_id": "s-nobody"})


def unclaimed_request(told: Told) -> None:
    told.row("approved")["sent_at"] = None


def second_charge(told: Told) -> None:
    told.ledger.append(deepcopy(told.in_ledger("approved", "charge")))


def overtaking_payment(told: Told) -> None:
    told.row("declined")["reference"] = "approved"


def missing_charge(told: Told) -> None:
    told.ledger.remove(told.in_ledger("approved", "charge"))


def charge_of_a_declined_one(told: Told) -> None:
    told.in_ledger("declined", "no_charge")["kind"] = "charge"
    told.in_ledger("declined", "charge").update(result="Success", amount_minor=1050, currency="EUR")


def wrong_amount(told: Told) -> None:
    told.row("approved")["authorised_minor"] = 1049


def other_currency(told: Told) -> None:
    told.in_ledger("approved", "charge")["currency"] = "USD"


def wrong_outcome(told: Told) -> None:
    told.row("declined")["outcome"] = "cancelled"


def expired_though_sent(told: Told) -> None:
    told.row("declined").update(outcome="not_performed", reason="expired")


def lost_payment(told: Told) -> None:
    told.data["payments"].remove(told.row("approved"))


def pending_for_ever(told: Told) -> None:
    told.row("withheld")["state"] = "pending"


def lost_task(told: Told) -> None:
    told.client.append({"kind": "enqueued", "key": "by-task", "asked": {"reference": "by-task"}})


def two_payments_for_a_key(told: Told) -> None:
    told.client.append(told.client[1] | {"key": "approved"})


def accepted_clash(told: Told) -> None:
    told.client[0].update(role="clash", status=200)


def changed_submission(told: Told) -> None:
    told.row("declined")["amount_minor"] = 1


def outcome_by_silence(told: Told) -> None:
    told.lines("approved")[-1].update(evidence="answer_window_passed", detail={})
    told.seal("approved")


def outcome_by_hearsay(told: Told) -> None:
    told.lines("approved")[-1]["detail"]["authentic"] = False
    told.seal("approved")


def forged_reference(told: Told) -> None:
    told.ledger.append({"kind": "forged", "psp_reference": "PSP-approved"})


def unknown_although_told(told: Told) -> None:
    told.ledger.append(told.in_ledger("approved", "notification") | {"service_id": "s-withheld"})


def unknown_that_nobody_asked_about(told: Told) -> None:
    told.ledger.remove(told.in_ledger("withheld", "status"))


def unknown_that_nobody_asks_about_any_more(told: Told) -> None:
    told.data["commands"].clear()


def contradiction(told: Told) -> None:
    told.row("withheld")["reason"] = "contradiction"


def late_prompt(told: Told) -> None:
    told.in_ledger("approved", "request")["at"] = "2026-01-31T12:00:11.000000Z"


def altered_detail(told: Told) -> None:
    told.lines("approved")[-1]["detail"]["psp_reference"] = "PSP-approved "


def altered_line(told: Told) -> None:
    told.lines("declined")[1]["at"] = AT.format(8)


def missing_line(told: Told) -> None:
    told.data["journal"].remove(told.lines("declined")[1])


def altered_row(told: Told) -> None:
    told.row("withheld")["journal_hash"] = "0" * 64


def open_send(told: Told) -> None:
    told.data["commands"].append({"payment_id": "id-withheld", "kind": "send"})


def check_of_a_concluded_one(told: Told) -> None:
    told.data["commands"].append({"payment_id": "id-approved", "kind": "check_status"})


def held_terminal(told: Told) -> None:
    told.row("declined")["holds_terminal"] = POI_ID


def full_queue(told: Told) -> None:
    told.queued["payments"] = 1


DOCTORED: dict[Callable[[Told], None], str] = {
    second_request: "second-request",
    request_of_nobody: "second-request",
    unclaimed_request: "second-request",
    two_payments_for_a_key: "second-request",
    accepted_clash: "second-request",
    second_charge: "second-charge",
    overtaking_payment: "second-charge",
    missing_charge: "disagrees",
    charge_of_a_declined_one: "disagrees",
    wrong_amount: "disagrees",
    other_currency: "disagrees",
    wrong_outcome: "disagrees",
    expired_though_sent: "disagrees",
    lost_payment: "lost",
    pending_for_ever: "lost",
    lost_task: "lost",
    changed_submission: "lost",
    outcome_by_silence: "no-evidence",
    outcome_by_hearsay: "no-evidence",
    forged_reference: "no-evidence",
    unknown_although_told: "unexplained-unknown",
    unknown_that_nobody_asked_about: "unexplained-unknown",
    unknown_that_nobody_asks_about_any_more: "unexplained-unknown",
    contradiction: "unexplained-unknown",
    late_prompt: "prompted-late",
    altered_detail: "broken-chain",
    altered_line: "broken-chain",
    missing_line: "broken-chain",
    altered_row: "broken-chain",
    open_send: "left-behind",
    check_of_a_concluded_one: "left-behind",
    held_terminal: "left-behind",
    full_queue: "left-behind",
}


def test_a_world_without_fault_passes() -> None:
    assert Told().violations() == set()


@pytest.mark.parametrize("doctor", DOCTORED, ids=lambda doctor: doctor.__name__)
def test_what_was_doctored_is_found(doctor: Callable[[Told], None]) -> None:
    told = Told()
    doctor(told)
    assert DOCTORED[doctor] in told.violations()


def test_the_chain_is_that_of_the_formula() -> None:
    line: dict[str, Any] = {
        "payment_id": "id", "sequence": 1, "at": "2026-01-31T12:00:00.000000Z", "evidence": "e", "event": "v",
        "before": None, "after": "pending", "digest": None, "salt": "s", "detail": {"b": 1, "a": "é"},
    }  # fmt: skip
    # computed with sha256sum from the formula that the module documents
    assert chain.detail_hash(line) == "7c0e08db3f073c0f5ce84b0e9ded932c9c427e1614286915cec2c5ed80724008"
    assert chain.line_hash("", line) == "e79f9660bb46a1500b6c19ccd2b62ffd9d0d9d952237e9b4b158d1086d413d54"
