"""Alarms: what a person has to look at, until one says that it was seen to.

An alarm belongs to the merchant account of its payment, refund or terminal; one that names none of them is about the
whole installation, and everybody's to see and to close. Closing keeps who, when and why, and moves nothing else: a
later one of the same name is another alarm.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from orchestrator.cards import mask_card_numbers
from orchestrator.store.database import Database
from orchestrator.store.rows import Row

_OWNER: Final = "coalesce(p.merchant_account, r.merchant_account, t.merchant_account)"
_ABOUT: Final = """
LEFT JOIN payments p ON p.id = a.payment_id LEFT JOIN refunds r ON r.id = a.refund_id
LEFT JOIN terminals t ON t.poi_id = a.poi_id AND a.payment_id IS NULL AND a.refund_id IS NULL
"""
_SHOWN: Final = f"""
SELECT a.id, a.name, a.at, a.payment_id, a.refund_id, coalesce(a.poi_id, p.poi_id, r.poi_id) AS poi_id,
    coalesce(p.reference, r.reference) AS reference, {_OWNER} AS merchant_account, a.sequence, a.closed_at, a.closed_by,
    a.closed_reason
FROM alarms a {_ABOUT}
"""
_MINE: Final = f"({_OWNER} IS NULL OR {_OWNER} = %(merchant_account)s)"

_CLOSE: Final = f"""
UPDATE alarms SET closed_at = now(), closed_by = %(by)s, closed_reason = %(reason)s
WHERE closed_at IS NULL AND id IN (SELECT a.id FROM alarms a {_ABOUT} WHERE a.id = ANY (%(ids)s) AND {{whose}})
RETURNING id
"""


@dataclass(frozen=True, slots=True)
class AlarmStore:
    """Reads alarms, and closes them."""

    database: Database

    def many(
        self,
        name: str | None = None,
        *,
        closed_too: bool,
        limit: int,
        merchant_account: str | None = None,
        before: int | None = None,
    ) -> Sequence[Row]:
        """Read alarms, newest first, older than ``before``, with what each is about; None is every merchant account."""
        given = {"name": name, "merchant_account": merchant_account, "before": before}
        conditions = {"name": "a.name = %(name)s", "merchant_account": _MINE, "before": "a.id < %(before)s"}
        said = [condition for key, condition in conditions.items() if given[key] is not None]
        where = " AND ".join([*said, "true" if closed_too else "a.closed_at IS NULL"])
        return self.database.all(
            f"{_SHOWN} WHERE {where} ORDER BY a.id DESC LIMIT %(limit)s", {**given, "limit": limit}
        )

    def oldest_open(self, merchant_account: str, limit: int) -> list[dict[str, Any]]:
        """Read the open alarms that a merchant account's people have to look at, the oldest first."""
        statement = f"{_SHOWN} WHERE a.closed_at IS NULL AND {_MINE} ORDER BY a.at, a.id LIMIT %(limit)s"
        return self.database.all(statement, {"merchant_account": merchant_account, "limit": limit})

    def one(self, alarm_id: int, merchant_account: str | None) -> Row | None:
        """Read an alarm."""
        where = "a.id = %(id)s" + (f" AND {_MINE}" if merchant_account is not None else "")
        return self.database.one(f"{_SHOWN} WHERE {where}", {"id": alarm_id, "merchant_account": merchant_account})

    def close(
        self, alarm_ids: Sequence[int], by: str, reason: str | None, *, merchant_account: str | None = None
    ) -> list[int]:
        """Close those of these that are open; return which those were."""
        statement = _CLOSE.format(whose="true" if merchant_account is None else _MINE)
        kept = reason and mask_card_numbers(reason)[:500]
        values = {"ids": list(alarm_ids), "by": by[:120], "reason": kept, "merchant_account": merchant_account}
        return [row["id"] for row in self.database.all(statement, values)]
