"""A message as it comes in: read as far as its header and its category's body."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal

from orchestrator.simulator import messages
from orchestrator.simulator.encoding import Json, as_object
from orchestrator.simulator.payment import Header


@dataclass(frozen=True, slots=True)
class Message:
    """A SaleToPOIRequest."""

    header: Header
    body: Json
    raw: bytes


class NotUnderstoodError(Exception):
    """The body is no Terminal API request; the text is the Reject event's EventDetails."""


def parse_message(raw: bytes) -> Message:
    """Read a request; NotUnderstoodError when it is none."""
    if not raw.strip():
        raise NotUnderstoodError(messages.EMPTY_INPUT)
    try:
        outer = json.loads(raw, parse_float=Decimal)
        request = outer["SaleToPOIRequest"]
        head = request["MessageHeader"]
        category = str(head["MessageCategory"])
        header = Header(
            str(head["POIID"]), str(head["SaleID"]), str(head["ServiceID"]), category, str(head["MessageClass"])
        )
        body = as_object(request.get(f"{category}Request"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise NotUnderstoodError(messages.NOT_JSON) from error
    return Message(header, body, raw)
