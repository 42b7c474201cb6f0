"""``PaymentReceipt`` as data, as text of a fixed width, and as a page to print.

A receipt is for paper and for people: its amounts are localised text, and neither money nor an outcome is read here.
Lines keep their order. Whatever a terminal may send is read without an error; what could be a card's number is masked.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final, TypeAlias

from orchestrator.cards import mask_card_numbers
from orchestrator.terminal_api import fields
from orchestrator.terminal_api.additional import read_form

Receipt: TypeAlias = Mapping[str, Any]

MAX_RECEIPTS: Final = 8  # our choice: a payment has two
MAX_LINES: Final = 200  # of one receipt; the longest official one has some 30

#: The columns of a line on paper of 80 mm; paper of 58 mm has fewer.
WIDTH_COLUMNS: Final = 40

_COPIES: Final[Mapping[str | None, str]] = {"CashierReceipt": "cashier", "CustomerReceipt": "customer"}
_PARTS: Final = ("name", "value", "key")
#: Lines whose digits name a transaction, and may look like a card's number by chance.
_NAMES_OF_TRANSACTIONS: Final = frozenset({"txRef", "mref", "QRCode"})


def read_receipts(raw: object) -> list[dict[str, Any]]:
    """Read ``PaymentReceipt``: a list of ``{"copy", "signature_required", "lines"}``, empty where there is none.

    ``copy`` is ``cashier``, ``customer`` or ``other``; a line has ``label``, ``value`` and ``key``, each text or None,
    and ``bold``.
    """
    return [_receipt(each) for each in _list(raw)[:MAX_RECEIPTS] if fields.mapping(each, "OutputContent")]


def _receipt(raw: object) -> dict[str, Any]:
    texts = _list(fields.member(raw, "OutputContent", "OutputText"))[:MAX_LINES]
    return {
        "copy": _COPIES.get(fields.text(raw, "DocumentQualifier"), "other"),
        "signature_required": fields.flag(raw, "RequiredSignatureFlag") is True,
        "lines": _joined(texts),
    }


def _list(raw: object) -> list[Any]:
    if isinstance(raw, list):
        return raw
    return [] if raw is None else [raw]


def _joined(texts: Iterable[object]) -> list[dict[str, Any]]:
    """Read lines; a text that does not end its line is continued by the next one."""
    lines: list[dict[str, Any]] = []
    goes_on = False
    for text in texts:
        line = _line(text)
        if goes_on:
            more = " ".join(filter(None, (lines[-1]["value"], line["label"], line["value"])))
            lines[-1]["value"] = more or None
        else:
            lines.append(line)
        goes_on = fields.flag(text, "EndOfLineFlag") is False
    return lines


def _line(raw: object) -> dict[str, Any]:
    text = fields.member(raw, "Text")
    parts = read_form(text) if isinstance(text, str) else {}
    if not parts.keys() & set(_PARTS):  # a text that is none of the platform's forms is a line as it stands
        parts = {"name": text} if isinstance(text, str) else {}
    label, value, key = (fields.text(parts, name) for name in _PARTS)
    bold = fields.text(raw, "CharacterStyle") == "Bold"
    return {"label": _masked(label, key), "value": _masked(value, key), "key": key, "bold": bold}


def _masked(text: str | None, key: str | None) -> str | None:
    if text is None or key in _NAMES_OF_TRANSACTIONS:
        return text
    return mask_card_numbers(fields.without_long_numbers(text) if key == "pan" else text)


# -- as text -----------------------------------------------------------------------------------------------------------


def as_text(receipt: Receipt, width: int = WIDTH_COLUMNS) -> str:
    """Write a receipt in lines of at most ``width`` columns; bold ones stand between asterisks."""
    lines = [_marked(line, width) if line["bold"] else _text_of(line, width) for line in _with_signature(receipt)]
    return "\n".join(text.rstrip() for texts in lines for text in texts) + "\n"


def _marked(line: Receipt, width: int) -> list[str]:
    inside = width - 2
    texts = _text_of(line, inside)
    return [f"*{text}{' ' * (inside - _columns(text))}*" if text.strip() else "" for text in texts]


def _text_of(line: Receipt, width: int) -> list[str]:
    """Label on the left and value on the right; one alone is centred; what is too long goes on below."""
    label, value = line["label"] or "", line["value"] or ""
    gap = width - _columns(label) - _columns(value)
    if label and value and gap > 0:
        return [label + " " * gap + value]
    if label and value:
        return [*_wrapped(label, width), *(" " * (width - _columns(part)) + part for part in _wrapped(value, width))]
    return [" " * ((width - _columns(part)) // 2) + part for part in _wrapped(label or value, width)]


def _wrapped(text: str, width: int) -> list[str]:
    """Break text at spaces, and inside a word where one alone is too long."""
    lines = [""]
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if _columns(joined) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for character in word:
            if _columns(lines[-1] + character) > width:
                lines.append("")
            lines[-1] += character
    return lines


def _columns(text: str) -> int:
    """How wide a printer with one cell for a letter makes it: East Asian letters take two, accents none."""
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in {"W", "F"} else 1
        for letter in text
    )


def _with_signature(receipt: Receipt) -> Iterator[Receipt]:
    """The lines, and one to sign on where the terminal wants a signature and gave no line for it."""
    lines: Sequence[Receipt] = receipt["lines"]
    for line in lines:
        yield {**line, "value": _SIGN_HERE} if line["key"] == "sigline" and not line["value"] else line
    if receipt["signature_required"] and not any(line["key"] == "sigline" for line in lines):
        yield {"label": "Signature", "value": _SIGN_HERE, "key": "sigline", "bold": False}


_SIGN_HERE: Final = "_" * 20

# -- as a page ---------------------------------------------------------------------------------------------------------

_STYLE: Final = """
:root{color-scheme:light}
body{margin:0;background:#e9e9e6;font:13px/1.45 ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;color:#111}
main{display:flex;flex-wrap:wrap;gap:24px;justify-content:center;padding:24px}
article{background:#fff;width:72mm;max-width:100%;padding:8mm 4mm;box-shadow:0 1px 4px #0003}
p{display:flex;justify-content:space-between;gap:1em;margin:0;min-height:1.45em;white-space:pre-wrap;
overflow-wrap:anywhere}
p.alone{justify-content:center;text-align:center}
p.bold{font-weight:700}
p span+span{text-align:right}
p.sigline{margin:3em 0 1em}
@page{margin:4mm}
@media print{
body{background:none}
main{display:block;padding:0}
article{padding:0;box-shadow:none;break-after:page}
article:last-child{break-after:auto}
}
""".strip()


def as_html(receipts: Iterable[Receipt], title: str) -> str:
    """Write receipts as one page that prints each on a slip of its own. It holds no script and loads nothing."""
    articles = "\n".join(_article(receipt) for receipt in receipts)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">\n<style>{_STYLE}</style></head>\n'
        f"<body><main>\n{articles}\n</main></body></html>\n"
    )


def _article(receipt: Receipt) -> str:
    lines = "\n".join(_paragraph(line) for line in _with_signature(receipt))
    return f'<article class="{receipt["copy"]}">\n{lines}\n</article>'


def _paragraph(line: Receipt) -> str:
    texts = [text for text in (line["label"], line["value"]) if text]
    classes = [name for name, holds in (("bold", line["bold"]), ("alone", len(texts) == 1)) if holds]
    classes += ["sigline"] * (line["key"] == "sigline")
    spans = "".join(f"<span>{escape(text)}</span>" for text in texts)
    return f'<p class="{" ".join(classes)}">{spans}</p>' if classes else f"<p>{spans}</p>"
