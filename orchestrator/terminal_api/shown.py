"""What terminals show and say, in words: display texts and events, what they mean, and what an event says is wrong.

Nothing here is an outcome: notifications may be lost, doubled or out of order, and ``TENDER_FINAL`` only ends a screen.
Values that are new are shown by their own name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from orchestrator.cards import mask_card_numbers
from orchestrator.meaning import Alarm

NAME_MAX_CHARS: Final = 80  # our choice: the longest known value has 27
_NAME: Final = re.compile(rf"[A-Za-z][A-Za-z0-9_]{{0,{NAME_MAX_CHARS - 1}}}")
_TENDER_REFERENCE: Final = re.compile(r"(?![0-9]+$)[A-Za-z0-9]{1,64}")  # of digits alone it would be something else
_INSTANT: Final = re.compile(r"[0-9T:.Z+-]{1,40}")

#: Stands for a value that is no name, such as one with a card number in it.
UNREADABLE: Final = "Unreadable"


class Severity(StrEnum):
    """How much an event matters to whoever watches."""

    INFO = "info"
    WARNING = "warning"
    ALARM = "alarm"


class Trouble(StrEnum):
    """What a terminal said is wrong with it."""

    MAINTENANCE = "maintenance"
    AWAY = "away"
    OUT_OF_ORDER = "out_of_order"
    TAMPERED = "tampered"


@dataclass(frozen=True, slots=True)
class Said:
    """What an event says: in words, how much it matters, and what it says of the terminal from then on."""

    text: str
    severity: Severity = Severity.INFO
    trouble: Trouble | None = None
    is_well: bool = False  # whatever was wrong with the terminal is over
    alarm: Alarm | None = None


#: Every ``EventToNotify`` of the protocol but ``Reject``, which is about a request of ours and goes its own way.
#: Source: TerminalAPI-v1 of github.com/Adyen/adyen-openapi; EventToNotifyType of its adyen-java-api-library.
EVENTS: Final[Mapping[str, Said]] = {
    "Abort": Said("Its requests to the till were cancelled"),
    "BeginMaintenance": Said("Maintenance began", Severity.WARNING, Trouble.MAINTENANCE),
    "CardInserted": Said("Card inserted"),
    "CardRemoved": Said("Card removed"),
    "Completed": Said("What was to be aborted had ended already"),
    "CustomerLanguage": Said("The shopper chose another language"),
    "EndMaintenance": Said("Maintenance ended", is_well=True),
    "Initialised": Said("Ready", is_well=True),
    "KeyPressed": Said("A key was pressed"),
    "NetworkConnected": Said("Connected to its network", is_well=True),
    "NetworkDisconnected": Said("Lost its network", Severity.WARNING, Trouble.AWAY),
    "OutOfOrder": Said("Out of order", Severity.ALARM, Trouble.OUT_OF_ORDER, alarm=Alarm.TERMINAL_OUT_OF_ORDER),
    "SaleAdmin": Said("Does an administrative task"),
    "SaleWakeUp": Said("Calls the till"),
    "ScanBarcodeResult": Said("A barcode was scanned"),
    "SecurityAlarm": Said(
        "Reports a security problem", Severity.ALARM, Trouble.TAMPERED, alarm=Alarm.TERMINAL_TAMPERED
    ),
    "Shutdown": Said("Shuts down", Severity.WARNING, Trouble.AWAY),
    "StopAssistance": Said("The shopper has finished"),
    "UseAnotherCardForPreauth": Said("Another card is needed for the pre-authorisation", Severity.WARNING),
}

#: ``Shutdown`` also tells of a change of state; this is the one in which a terminal waits for work.
_IDLE: Final = Said("Ready", is_well=True)

#: The ``event`` of display notifications.
#: Source: PredefinedContentHelper of github.com/Adyen/adyen-java-api-library; PIN_DIGIT_ENTERED from older material.
DISPLAYS: Final[Mapping[str, str]] = {
    "TENDER_CREATED": "Waiting for the shopper",
    "CARD_INSERTED": "Card inserted",
    "CARD_PRESENTED": "Card presented",
    "CARD_SWIPED": "Card swiped",
    "WAIT_FOR_APP_SELECTION": "The shopper chooses how to pay",
    "APPLICATION_SELECTED": "The shopper chose how to pay",
    "ASK_SIGNATURE": "Waiting for the signature",
    "CHECK_SIGNATURE": "Check the signature",
    "SIGNATURE_CHECKED": "Signature checked",
    "WAIT_FOR_PIN": "Waiting for the PIN",
    "PIN_DIGIT_ENTERED": "The shopper enters the PIN",
    "PIN_ENTERED": "PIN entered",
    "PRINT_RECEIPT": "Printing the receipt",
    "RECEIPT_PRINTED": "Receipt printed",
    "CARD_REMOVED": "Card removed",
    "TENDER_FINAL": "Finished at the terminal",
    "ASK_DCC": "The shopper chooses the currency",
    "DCC_ACCEPTED": "The shopper pays in another currency",
    "DCC_REJECTED": "The shopper pays in your currency",
    "ASK_GRATUITY": "Waiting for the tip",
    "GRATUITY_ENTERED": "Tip entered",
    "BALANCE_QUERY_STARTED": "Asking for the balance",
    "BALANCE_QUERY_COMPLETED": "Balance received",
    "LOAD_STARTED": "Loading the card",
    "LOAD_COMPLETED": "Card loaded",
    "PROVIDE_CARD_DETAILS": "Waiting for the card's details",
    "CARD_DETAILS_PROVIDED": "Card details entered",
}


def said_by(event: str, details: Mapping[str, str]) -> Said:
    """What an event means; one that is new is shown by its name."""
    if event == "Shutdown" and details.get("newstate") == "IDLE":
        return _IDLE
    return EVENTS.get(event) or Said(_spelled_out(event))


def display_text(event: str) -> str:
    """What the terminal shows, in words for the cashier."""
    return DISPLAYS.get(event) or _spelled_out(event)


def name_of(event: str) -> str:
    """The event's name if it is one: a word of the protocol, and no card number."""
    return event if _NAME.fullmatch(mask_card_numbers(event)) else UNREADABLE


def safe_details(details: Mapping[str, str]) -> dict[str, str]:
    """Details without card numbers, whoever typed them."""
    return {name: mask_card_numbers(value) for name, value in details.items()}


def display_details(*, tender_reference: str | None, at: str | None) -> dict[str, str]:
    """Of a display notification, what is kept beside its event: its payment's tender and its time, verbatim."""
    found = {}
    if tender_reference and _TENDER_REFERENCE.fullmatch(tender_reference):
        found["tender_reference"] = tender_reference
    if at and _INSTANT.fullmatch(at):
        found["terminal_at"] = at
    return found


def _spelled_out(name: str) -> str:
    """``SOMETHING_NEW`` and ``BrandNewEvent`` for people."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).replace("_", " ").split()
    return " ".join(words).capitalize()
