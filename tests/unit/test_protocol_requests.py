import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qsl, quote, unquote
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import ConfigurationError, LocalProtocolError
from orchestrator.model import Money, Transaction
from orchestrator.terminal_api import endpoints, messages, service_ids, strict_json, tag
from orchestrator.terminal_api.acquirer_data import ApplicationInfo
from orchestrator.terminal_api.additional import read_additional
from tests.protocol_vectors import message, transaction, transaction_of

AT = datetime(2025, 11, 25, 9, 0, 30, tzinfo=UTC)
KEY = b"k" * 32


APPLICATION = ApplicationInfo(version="1.4.0")


def request(tx: Transaction, **changes: Any) -> bytes:
    """The request that we would send."""
    usual: dict[str, Any] = {"at": AT, "tag": "T-a_g", "application": APPLICATION, "options": {}}
    return messages.payment_request(tx, **(usual | changes))


def acquirer_data(text: str) -> dict[str, str]:
    """SaleToAcquirerData, read without forgiveness."""
    return dict(parse_qsl(text, strict_parsing=True, keep_blank_values=True))


def nested(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The nested encoding in the names of the flat one."""
    flat: dict[str, str] = {}
    for name, item in value.items():
        flat |= nested(item, f"{prefix}{name}.") if isinstance(item, Mapping) else {prefix + name: item}
    return flat


def payment(request_id: str, **changes: Any) -> tuple[Any, dict[str, str]]:
    """The request that we would send, without SaleToAcquirerData, and that."""
    built = strict_json.loads(request(transaction_of(request_id), **changes))
    data = built["SaleToPOIRequest"]["PaymentRequest"]["SaleData"].pop("SaleToAcquirerData")
    return built, acquirer_data(data)


@pytest.mark.parametrize("name", ["payment_basic", "payment_jpy", "payment_kwd"])
def test_a_payment_request_is_the_references_with_our_tag_and_our_name(name: str) -> None:
    built, data = payment(f"requests/{name}")

    assert built == message(f"requests/{name}")
    assert data == {
        "applicationInfo.merchantApplication.name": "counterfoil",
        "applicationInfo.merchantApplication.version": "1.4.0",
        "metadata.counterfoil_tag": "T-a_g",
    }


def test_a_token_and_the_application_say_the_same_as_in_the_encoding_that_the_reference_shows() -> None:
    expected = message("requests/payment_acquirer_data_base64")["SaleToPOIRequest"]["PaymentRequest"]["SaleData"]
    shown = nested(json.loads(base64.b64decode(expected["SaleToAcquirerData"])))

    built, data = payment(
        "requests/payment_acquirer_data_base64",
        application=ApplicationInfo(
            version="1.4.0",
            os="linux",
            os_version="6.8",
            platform_name="ExamplePOS",
            platform_version="9.2",
            integrator="Example BV",
        ),
        options={
            "metadata": {"correlation": "7f3a9d"},
            "shopper_reference": "cust-991",
            "recurring_processing_model": "CardOnFile",
        },
        till_prints=True,
    )

    sale = built["SaleToPOIRequest"]["PaymentRequest"]["SaleData"]
    assert sale["TokenRequestedType"] == expected["TokenRequestedType"] == "Customer"
    # We are no lane's device, and take no e-mail address, since no token is found by it.
    ours = {"metadata.counterfoil_tag": "T-a_g", "applicationInfo.merchantApplication.name": "counterfoil"}
    not_ours = {"applicationInfo.merchantDevice.reference", "shopperEmail"}
    assert data == {name: text for name, text in shown.items() if name not in not_ours} | ours


def test_operator_shift_and_sale_go_where_the_reference_has_them() -> None:
    expected = message("requests/payment_store_terminal_header")["SaleToPOIRequest"]["PaymentRequest"]["SaleData"]

    built, _ = payment(
        "requests/payment_store_terminal_header",
        options={
            "operator_id": "cashier-12",
            "shift_number": "2",
            "operator_language": "nl",
            "sale_reference_id": "BASKET-881",
        },
    )

    sale = built["SaleToPOIRequest"]["PaymentRequest"]["SaleData"]
    assert sale == {name: expected[name] for name in expected if name != "SaleToPOIData"} | {"OperatorLanguage": "nl"}


@pytest.mark.parametrize("name", ["payment_partial_tip_form", "payment_second_part_of_split"])
def test_the_parts_of_a_split_sale_share_its_reference(name: str) -> None:
    built, _ = payment(f"requests/{name}", options={"sale_reference_id": "BASKET-882"})

    expected = message(f"requests/{name}")
    expected["SaleToPOIRequest"]["PaymentRequest"]["SaleData"].pop("SaleToAcquirerData", None)
    assert built == expected


def test_options_and_metadata_go_into_the_form_that_the_reference_shows() -> None:
    options = {
        "tender_options": ["AllowPartialAuthorisation", "AskGratuity", "ReceiptHandler"],
        "metadata": {"correlation": "7f3a9c"},
        "shopper_reference": "cust-991",
    }

    _, data = payment("requests/payment_partial_tip_form", options=options)

    expected = message("requests/payment_partial_tip_form")["SaleToPOIRequest"]["PaymentRequest"]["SaleData"]
    shown = acquirer_data(expected["SaleToAcquirerData"])
    assert {name: data[name] for name in shown} == shown
    assert set(data) - set(shown) == {
        "applicationInfo.merchantApplication.name",
        "applicationInfo.merchantApplication.version",
        "metadata.counterfoil_tag",
    }


@pytest.mark.parametrize("asked", [[], ["ReceiptHandler"], ["AskGratuity"]])
def test_a_terminal_that_the_till_prints_for_is_told_so_once(asked: list[str]) -> None:
    _, told = payment("requests/payment_basic", options={"tender_options": asked}, till_prints=True)
    _, untold = payment("requests/payment_basic", options={"tender_options": asked})

    assert told["tenderOption"].split(",").count("ReceiptHandler") == 1
    assert untold.get("tenderOption", "") == ",".join(asked)


@given(st.dictionaries(st.from_regex(r"[a-zA-Z][a-zA-Z0-9]{0,9}", fullmatch=True), st.text(min_size=1), max_size=4))
def test_no_value_can_break_out_of_its_key(metadata: Mapping[str, str]) -> None:
    built = strict_json.loads(request(transaction(), options={"metadata": metadata}))
    text = built["SaleToPOIRequest"]["PaymentRequest"]["SaleData"]["SaleToAcquirerData"]
    pairs = [pair.split("=") for pair in text.split("&")]

    assert {name: unquote(value) for name, value in pairs if name.startswith("metadata.")} == {
        "metadata.counterfoil_tag": "T-a_g",
        **{f"metadata.{name}": value for name, value in metadata.items()},
    }


@given(st.dictionaries(st.from_regex(r"[a-zA-Z][a-zA-Z0-9]{0,9}", fullmatch=True), st.text(min_size=1), max_size=4))
def test_the_tag_is_found_in_whatever_encoding_it_comes_back(metadata: Mapping[str, str]) -> None:
    sent = {**metadata, "counterfoil_tag": "T-a_g"}
    flat = {f"metadata.{name}": value for name, value in sent.items()}
    echoes = [
        "&".join(f"{name}={quote(value, safe='')}" for name, value in flat.items()),
        *(
            base64.b64encode(json.dumps(body).encode()).decode()
            for body in ({"additionalData": flat}, {"additionalData": {"metadata": sent}}, {"metadata": sent}, flat)
        ),
    ]

    assert {read_additional(text).values["metadata.counterfoil_tag"] for text in echoes} == {"T-a_g"}


@pytest.mark.parametrize("metadata", [{"counterfoil_tag": "forged"}, {"a&b": "x"}])
def test_nobody_else_writes_our_tag_or_a_key_that_is_no_word(metadata: dict[str, str]) -> None:
    with pytest.raises(LocalProtocolError):
        payment("requests/payment_basic", options={"metadata": {"fine": "x", **metadata}})


@pytest.mark.parametrize(
    ("version", "shown"), [("0.1.0", "0.1.0"), ("0.1.0.dev3+g12ab", "0.1.0.dev3-g12ab"), ("1" * 50, "1" * 40)]
)
def test_a_version_is_told_in_letters_that_the_platform_takes(version: str, shown: str) -> None:
    _, data = payment("requests/payment_basic", application=ApplicationInfo(version=version))

    assert data["applicationInfo.merchantApplication.version"] == shown


def test_the_time_stamp_is_utc() -> None:
    built, _ = payment("requests/payment_basic")
    elsewhere = AT.astimezone(timezone(timedelta(hours=9)))

    sent = strict_json.loads(request(transaction(), at=elsewhere))

    stamp = sent["SaleToPOIRequest"]["PaymentRequest"]["SaleData"]["SaleTransactionID"]["TimeStamp"]
    expected = built["SaleToPOIRequest"]["PaymentRequest"]["SaleData"]["SaleTransactionID"]["TimeStamp"]
    assert stamp == expected == "2025-11-25T09:00:30Z"


@pytest.mark.parametrize(
    "changes", [{"service_id": ""}, {"service_id": "a" * 11}, {"service_id": "a-1"}, {"sale_id": ""}, {"poi_id": ""}]
)
def test_a_request_that_nobody_could_answer_is_not_built(changes: dict[str, str]) -> None:
    with pytest.raises(LocalProtocolError):
        request(transaction(**changes))


@pytest.mark.parametrize("reference", ["", "x" * 81])
def test_a_reference_that_finance_could_not_find_is_not_sent(reference: str) -> None:
    with pytest.raises(LocalProtocolError):
        request(transaction(reference=reference))


def test_a_time_without_a_zone_is_not_sent() -> None:
    with pytest.raises(LocalProtocolError):
        request(transaction(), at=AT.replace(tzinfo=None))


def test_a_status_request_is_the_references() -> None:
    built = strict_json.loads(messages.status_request(transaction(), service_id="sta0000001"))

    assert built == message("requests/transaction_status")


def test_an_abort_request_is_the_references() -> None:
    built = strict_json.loads(messages.abort_request(transaction(), service_id="abt0000001"))

    assert built == message("requests/abort")


# -- ServiceIDs --------------------------------------------------------------------------------------------------------


@given(st.text(), st.text(), st.text(), st.text(), st.integers(0, 5))
def test_a_derived_service_id_is_always_the_same_and_well_formed(
    merchant: str, kind: str, parent: str, key: str, salt: int
) -> None:
    found = service_ids.derive_service_id(merchant, kind, parent, key, salt)

    assert found == service_ids.derive_service_id(merchant, kind, parent, key, salt)
    assert len(found) == 10
    assert found.isascii()
    assert found.isalnum()
    assert found[0] == "P"


def test_each_part_of_a_submission_changes_its_service_id() -> None:
    submissions = [
        ("M", "payment", "p", "k", 0),
        ("N", "payment", "p", "k", 0),
        ("M", "refund", "p", "k", 0),
        ("M", "payment", "q", "k", 0),
        ("M", "payment", "p", "l", 0),
        ("M", "payment", "p", "k", 1),
        ("Mp", "ayment", "p", "k", 0),
    ]

    assert len({service_ids.derive_service_id(*submission) for submission in submissions}) == len(submissions)


def test_service_ids_of_questions_are_random_and_apart_from_those_of_money() -> None:
    status = {service_ids.random_service_id("status") for _ in range(1000)}
    abort = {service_ids.random_service_id("abort") for _ in range(1000)}

    assert len(status | abort) == 2000
    assert {found[0] for found in status} == {"S"}
    assert {found[0] for found in abort} == {"A"}
    assert all(len(found) == 10 and found.isalnum() for found in status | abort)


# -- the tag -----------------------------------------------------------------------------------------------------------


def test_a_tag_is_text_that_survives_any_form() -> None:
    text = tag.sign(KEY, transaction())

    assert len(text) == 43
    assert len(base64.urlsafe_b64decode(text + "=")) == 32
    assert tag.verify([KEY], transaction(), text)


@pytest.mark.parametrize(
    "changes",
    [
        {"sale_id": "KASSA-08"},
        {"service_id": "pay0000002"},
        {"poi_id": "V400m-324000124"},
        {"id": UUID(int=2)},
        {"amount": Money("EUR", 1098)},
        {"amount": Money("USD", 1099)},
        {"sale_id": "KASSA-07p", "service_id": "ay0000001"},
    ],
)
def test_a_tag_holds_for_one_transaction_alone(changes: dict[str, Any]) -> None:
    assert not tag.verify([KEY], transaction(**changes), tag.sign(KEY, transaction()))


def test_every_current_key_verifies_and_no_other() -> None:
    text = tag.sign(b"old", transaction())

    assert tag.verify([KEY, b"old"], transaction(), text)
    assert not tag.verify([KEY], transaction(), text)
    assert not tag.verify([], transaction(), text)


@given(st.none() | st.text(st.characters()))
def test_any_text_is_judged_without_an_error(text: str | None) -> None:
    assert not tag.verify([KEY], transaction(), text)


@pytest.mark.parametrize("text", ["", "é", "\ud800", "\x00"])
def test_odd_texts_are_no_tags(text: str) -> None:
    assert not tag.verify([KEY], transaction(), text)


# -- endpoints ---------------------------------------------------------------------------------------------------------


def url(environment: str, region: str | None, family: str, **changes: Any) -> str:
    values: dict[str, Any] = {"kind": "async", "merchant": "Shop POS", "poi_id": "V400m-1", "override": None} | changes
    return endpoints.cloud_url(environment, region, family, **values)


@pytest.mark.parametrize(
    ("environment", "region", "host"),
    [
        ("test", None, "-test"),
        ("test", "us", "-test"),
        ("live", "eu", "-live"),
        ("live", "us", "-live-us"),
        ("live", "au", "-live-au"),
        ("live", "apse", "-live-apse"),
    ],
)
def test_both_families_have_a_host_per_region(environment: str, region: str | None, host: str) -> None:
    assert url(environment, region, "terminal") == f"https://terminal-api{host}.adyen.com/async"
    assert url(environment, region, "device", kind="sync") == (
        f"https://device-api{host}.adyen.com/v1/merchants/Shop%20POS/devices/V400m-1/sync"
    )


def test_north_east_asia_has_the_newer_family_alone() -> None:
    assert url("live", "nea", "device").startswith("https://device-api-live-nea.adyen.com/v1/")
    with pytest.raises(ConfigurationError, match=r"eu, us, au, apse$"):
        url("live", "nea", "terminal")


@pytest.mark.parametrize(
    ("environment", "region", "family"),
    [("live", None, "terminal"), ("live", "mars", "device"), ("prod", "eu", "device"), ("test", None, "legacy")],
)
def test_an_unknown_place_is_a_configuration_error_and_never_a_guess(
    environment: str, region: str | None, family: str
) -> None:
    with pytest.raises(ConfigurationError):
        url(environment, region, family)


def test_a_base_url_replaces_the_host_and_keeps_the_paths() -> None:
    assert url("test", None, "terminal", override="http://127.0.0.1:9000") == "http://127.0.0.1:9000/async"
    assert url("test", None, "device", override="http://127.0.0.1:9000/") == (
        "http://127.0.0.1:9000/v1/merchants/Shop%20POS/devices/V400m-1/async"
    )


@pytest.mark.parametrize(
    "override",
    [
        "",
        "localhost:9000",
        "ftp://h",
        "http://",
        "http://h/path",
        "http://h?x",
        "http://h#x",
        "http://u:p@h",
        "http://h:x",
    ],
)
def test_a_base_url_with_anything_else_in_it_is_refused(override: str) -> None:
    with pytest.raises(ConfigurationError):
        url("test", None, "terminal", override=override)


@pytest.mark.parametrize("merchant", ["", ".", ".."])
def test_a_merchant_cannot_climb_out_of_the_path(merchant: str) -> None:
    with pytest.raises(ConfigurationError):
        url("test", None, "device", merchant=merchant)


def test_a_merchant_is_one_segment_of_the_path() -> None:
    assert "/merchants/a%2F..%2F%3Fb%23%C3%A9/devices/" in url("test", None, "device", merchant="a/../?b#é")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.7", "192.0.2.7:8443"),
        ("192.0.2.7:443", "192.0.2.7:443"),
        ("till-7.shop.example", "till-7.shop.example:8443"),
        ("Till_7.local.:443", "till_7.local.:443"),
        ("[2001:db8::7]", "[2001:db8::7]:8443"),
        ("[2001:db8::7]:9443", "[2001:db8::7]:9443"),
    ],
)
def test_a_terminal_listens_at_a_host_and_a_port(text: str, address: str) -> None:
    assert endpoints.local_address(text) == address


@pytest.mark.parametrize(
    "text",
    ["", ":8443", "h:0", "h:65536", "h:x", "https://h", "h/nexo", "u@h", "u:p@h", "h h", "h\n", "h?x", "h#x", "ü",
     "192.0.2.300", "192.0.2", "a..b", ".", "-h", f"{'h' * 64}.example", "*"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        endpoints.local_address(text)
