"""The copied vectors are the reference's, and each of them is used."""

import hashlib
import importlib
import re
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType

import pytest

from tests.protocol_vectors import ENTRIES, VECTORS

OWN = {"ORIGIN.md", "SHA256SUMS"}


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_no_vector_was_edited_added_or_lost() -> None:
    lines = (VECTORS / "SHA256SUMS").read_text().splitlines()
    recorded = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}

    found = {name: digest for name, digest in files(VECTORS).items() if name not in OWN}

    assert found == recorded
    assert len(recorded) > 150


def test_the_copy_equals_the_reference_wherever_one_lies_beside_the_checkout() -> None:
    copy = {name: digest for name, digest in files(VECTORS).items() if name not in OWN}

    for original in VECTORS.parents[2].glob("*/reference/vectors"):
        assert files(original) == copy


# -- every one is used -------------------------------------------------------------------------------------------------

TESTS = Path(__file__).parents[1]

#: Each test that asserts what files say (their ``expect``, ``outcome`` or values; of what is sent, the message itself),
#: by its file, and which files it takes. It names each of them: in its parameters, or in its file's text.
USES: dict[str, dict[str, tuple[str, ...]]] = {
    "unit/test_protocol_vectors.py": {
        "test_no_vector_was_edited_added_or_lost": ("README.md",),
        "test_every_message_is_in_the_index": ("messages/index.json",),
    },
    "unit/test_certificates.py": {
        "test_a_common_name_is_this_terminals_or_it_is_refused": ("certificate-names.json",),
        "test_the_root_that_came_along_is_the_published_one": ("certs/adyen-terminalfleet-test.pem",),
    },
    "unit/test_protocol_money.py": {
        "test_each_amount_of_the_vectors_is_read_as_they_say": ("currency-amounts.json",),
    },
    "unit/test_protection.py": {
        "test_keys_are_derived_as_the_official_libraries_derive_them": ("nexo-kdf.json",),
        "test_the_cipher_gives_and_takes_exactly_the_official_bytes": ("nexo-protection.json",),
        "test_what_is_received_is_accepted_or_refused_as_expected": ("nexo-reject.json",),
    },
    "unit/test_protocol_encodings.py": {
        "test_additional_response_is_read_in_whichever_form_it_comes": ("text-encodings.json",),
    },
    "unit/test_webhook_signatures.py": {
        "test_each_vector_of_an_item_is_judged_as_it_says": ("webhook-hmac.json",),
    },
    "unit/test_webhook_items.py": {
        "test_each_composed_body_is_read_for_what_its_outcome_says": ("messages/webhooks/*",),
    },
    "unit/test_reports.py": {
        "test_an_accounting_report_says_what_happened_to_each_payment": ("reports/payments_accounting_report_*",),
        "test_a_received_payments_report_lists_every_attempt": ("reports/received_payments_report_*",),
        "test_a_settlement_report_takes_credit_or_debit_whichever_is_filled": ("reports/settlement_detail_report_*",),
    },
    "unit/test_protocol_answers.py": {
        "test_each_answer_is_evidence_for_what_the_vectors_demand": (
            "messages/responses/payment_*",
            "messages/responses/refund_*",
            "messages/responses/status_*",
            "messages/gateway/*",
        ),
        "test_an_abort_is_answered_by_nothing_that_counts": ("messages/responses/abort_reply_*",),
    },
    "unit/test_refund_protocol.py": {
        "test_a_received_reversal_says_so_and_names_the_modification": ("messages/responses/reversal_received*",),
        "test_a_failed_reversal_names_its_condition_and_no_modification": ("messages/responses/reversal_failed_*",),
        "test_a_status_answer_is_judged_by_the_reversal_that_it_repeats": ("messages/responses/status_success_rev*",),
        "test_a_whole_refund_names_no_amount": ("messages/requests/reversal_full.json",),
        "test_a_partial_refund_names_its_amount_in_major_units_and_its_currency_beside_it": (
            "messages/requests/reversal_partial.json",
        ),
        "test_a_refund_without_a_payment_is_a_payment_of_the_type_refund": (
            "messages/requests/refund_unreferenced.json",
        ),
        "test_a_status_request_asks_for_the_message_of_the_refunds_own_category": (
            "messages/requests/transaction_status_reversal.json",
        ),
    },
    "unit/test_inventory.py": {
        "test_either_family_lists_who_is_connected": ("messages/gateway/connected_*",),
        "test_an_answer_to_another_question_lists_nobody": ("messages/gateway/device_*",),
        "test_a_terminal_that_is_well_says_so": ("messages/responses/diagnosis_ok.json",),
        "test_the_question_is_the_references_but_for_the_host": ("messages/requests/diagnosis.json",),
    },
    "unit/test_protocol_notifications.py": {
        "test_each_event_is_known_by_its_name": ("messages/notifications/*",),
        "test_each_display_text_is_known_by_its_event": ("messages/notifications/display_*",),
        "test_a_pushed_result_is_hearsay_without_our_tag": ("messages/notifications/async_*",),
        "test_a_pushed_reject_names_the_refused_payment": ("messages/notifications/reject_pushed.json",),
        "test_a_message_that_we_have_no_use_for_is_acknowledged": ("messages/notifications/display_response_reply*",),
    },
    "unit/test_protocol_requests.py": {
        "test_a_payment_request_is_the_references_with_our_tag_and_our_name": (
            "messages/requests/payment_basic.json",
            "messages/requests/payment_jpy.json",
            "messages/requests/payment_kwd.json",
        ),
        "test_a_token_and_the_application_say_the_same_as_in_the_encoding_that_the_reference_shows": (
            "messages/requests/payment_acquirer_data_base64.json",
        ),
        "test_operator_shift_and_sale_go_where_the_reference_has_them": (
            "messages/requests/payment_store_terminal_header.json",
        ),
        "test_the_parts_of_a_split_sale_share_its_reference": (
            "messages/requests/payment_partial_tip_form.json",
            "messages/requests/payment_second_part_of_split.json",
        ),
        "test_a_status_request_is_the_references": ("messages/requests/transaction_status.json",),
        "test_an_abort_request_is_the_references": ("messages/requests/abort.json",),
    },
    # We do not send these; the simulator answers the first, and each is sealed and opened as any other.
    "integration/test_simulator_money.py": {
        "test_the_tills_own_tip_is_a_part_of_the_amount": ("messages/requests/payment_tip_in_request.json",),
    },
    "unit/test_sealing_both_sides.py": {
        "test_what_we_never_send_is_sealed_and_opened_all_the_same": (
            "messages/requests/payment_preauth.json",
            "messages/requests/transaction_status_last.json",
        ),
    },
    "integration/test_management.py": {
        "test_the_settings_of_the_vectors_are_read_and_written_as_they_are": (
            "messages/management/terminal_settings.json",
            "messages/management/terminal_settings_patch.json",
        ),
        "test_where_terminals_push_to_stays_as_it_is_when_a_key_is_set": (
            "messages/management/terminal_settings_patch_event_urls.json",
        ),
        "test_a_refusal_is_told_without_a_word_that_may_repeat_the_secret": (
            "messages/management/terminal_settings_error.json",
        ),
    },
}
TAKEN = [(file, test, pattern) for file, tests in USES.items() for test, found in tests.items() for pattern in found]


def module_of(file: str) -> ModuleType:
    return importlib.import_module("tests." + file.removesuffix(".py").replace("/", "."))


def parameters(test: object) -> set[str]:
    """Every text among the parameters of a test."""
    marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
    values = [value for mark in marks for value in mark.args[1]]
    parts = [part for value in values for part in (value if isinstance(value, tuple) else (value,))]
    return {part for part in parts if isinstance(part, str)}


def is_named(vector: str, file: str, test: str) -> bool:
    """Whether this test, or the text of its file, names the vector: by its file's name, or its name in the index."""
    path = Path(vector)
    found = parameters(getattr(module_of(file), test))
    names = {path.stem, path.name, str(path.with_suffix("")).removeprefix("messages/")}
    text = (TESTS / file).read_text()
    return bool(names & found) or re.search(rf"[\"'/]{re.escape(path.stem)}[\"'.]", text) is not None


def test_every_message_is_in_the_index() -> None:
    listed = {str(entry["file"]) for entry in ENTRIES.values()}
    there = {str(path.relative_to(VECTORS / "messages")) for path in (VECTORS / "messages").glob("*/*")}
    assert listed == there


@pytest.mark.parametrize("vector", sorted(name for name in files(VECTORS) if name not in OWN))
def test_every_vector_is_used_by_a_test_that_names_it(vector: str) -> None:
    takers = [(file, test) for file, test, pattern in TAKEN if fnmatch(vector, pattern)]
    assert takers, "say in USES which test asserts what it says"
    assert any(is_named(vector, file, test) for file, test in takers), f"none of {takers} names it"


def test_every_test_that_is_said_to_use_vectors_is_there_and_does() -> None:
    missing = [(file, test) for file, test, _ in TAKEN if not callable(getattr(module_of(file), test, None))]
    idle = [pattern for _, _, pattern in TAKEN if not any(fnmatch(name, pattern) for name in files(VECTORS))]
    assert (missing, idle) == ([], [])
