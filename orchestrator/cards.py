"""Card numbers, wherever they turn up: recognised by length and check digit, and masked to their last four."""

import re

CARD_DIGITS_MIN, CARD_DIGITS_MAX = 13, 19  # ISO/IEC 7812-1 ends at 19; the shortest in use are of 13
DIGIT_RUN = re.compile(
    r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"  # a UUID is no card number, and is left whole
    r"|[0-9](?:[ -]?[0-9]){12,}"
)
SMALLEST_CARD_NUMBER = 10 ** (CARD_DIGITS_MIN - 1)


def _passes_luhn(digits: str) -> bool:
    """ISO/IEC 7812-1 annex B."""
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (doubled + sum(map(int, digits[-1::-2]))) % 10 == 0


def _mask_run(match: re.Match[str]) -> str:
    """Mask the card numbers in a run of digit groups: every stretch of whole groups that could be one."""
    run = match.group()
    if run[8:9] == "-" and len(run) == 36 and run.count("-") == 4:  # the shape of a UUID
        return run
    pieces = re.split(r"([ -])", run)  # groups at even places, what stands between them at odd ones
    for first in range(0, len(pieces), 2):
        if not pieces[first]:
            continue  # inside a number that was masked
        # A group has a digit at least, so that more groups than a number has digits are none: long text stays cheap.
        for last in range(min(len(pieces), first + 2 * CARD_DIGITS_MAX - 1), first, -2):
            digits = "".join(pieces[first:last:2])
            if CARD_DIGITS_MIN <= len(digits) <= CARD_DIGITS_MAX and digits.isdigit() and _passes_luhn(digits):
                pieces[first:last] = ["*" * (len(digits) - 4) + digits[-4:]] + [""] * (last - first - 1)
                break
    return "".join(pieces)


def mask_card_numbers(text: str) -> str:
    """The text, each run of 13 to 19 digits that passes the Luhn check masked to its last four."""
    return DIGIT_RUN.sub(_mask_run, text) if len(text) >= CARD_DIGITS_MIN else text
