"""Terminals' certificates: this terminal's and no other's, under the one root that the platform published."""

import socket
import ssl
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from orchestrator.errors import ConfigurationError
from orchestrator.terminal_api import certificates
from orchestrator.terminal_api.certificates import Root, common_name, load_roots, name_fits, terminal_tls
from tests.certificates import Signer, authority, certificate_for
from tests.protocol_vectors import VECTORS, load

NAMES = load("certificate-names.json")
PUBLISHED_TEST_ROOT = VECTORS / "certs" / "adyen-terminalfleet-test.pem"
POI_ID = "V400m-324000123"
NAME = f"{POI_ID}.test.terminal.adyen.com"


@pytest.mark.parametrize("vector", NAMES["vectors"], ids=lambda vector: vector["id"])
def test_a_common_name_is_a_terminals_or_it_is_not(vector: Mapping[str, Any]) -> None:
    name = vector["common_name"]
    anyone = (name or "").partition(".")[0]
    assert name_fits(name, vector["environment"], anyone, legacy_allowed=True) is vector["valid"]


@pytest.mark.parametrize("vector", NAMES["pinning"], ids=lambda vector: vector["id"])
def test_a_common_name_is_this_terminals_or_it_is_refused(vector: Mapping[str, Any]) -> None:
    accepted = {
        allowed: name_fits(
            vector["common_name"], vector["environment"], vector["expected_poiid"], legacy_allowed=allowed
        )
        for allowed in (True, False)
    }
    by_setting = {True: True, False: False}
    assert accepted == (by_setting if vector["accept"] is None else dict.fromkeys(by_setting, vector["accept"]))


def test_a_name_is_compared_with_the_case_of_its_letters() -> None:
    assert name_fits(NAME, "test", POI_ID, legacy_allowed=False)
    assert not name_fits(NAME, "test", POI_ID.upper(), legacy_allowed=False)
    assert not name_fits(NAME.upper(), "test", POI_ID, legacy_allowed=False)


def test_letters_outside_ascii_are_no_letters_of_a_name() -> None:
    foreign = "V400ｍ-324000123"
    assert not name_fits(f"{foreign}.test.terminal.adyen.com", "test", foreign, legacy_allowed=True)


@pytest.mark.parametrize(
    ("certificate", "expected"),
    [
        (None, None),
        ({}, None),
        ({"subject": ((("countryName", "NL"),), (("commonName", NAME),))}, NAME),
        ({"subject": ((("commonName", NAME),), (("commonName", "another"),))}, None),
        ({"subject": ((("commonName", NAME), ("commonName", "another")),)}, None),
        ({"subject": ((("organizationName", NAME),),)}, None),
    ],
)
def test_a_certificate_has_one_common_name_or_none(certificate: Mapping[str, Any] | None, expected: str | None) -> None:
    assert common_name(certificate) == expected


# -- roots -------------------------------------------------------------------------------------------------------------


def test_the_root_that_came_along_is_the_published_one() -> None:
    root = load_roots(None, "test")
    assert root.der == load_roots(PUBLISHED_TEST_ROOT, "test").der
    assert root.sha256 == certificates.PUBLISHED_SHA256["test"]
    assert "3082" not in repr(root)


def test_live_says_where_its_root_is_and_how_to_know_it() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_roots(None, "live")
    assert certificates.PUBLISHED_SHA256["live"] in str(caught.value)
    assert certificates.WHERE_PUBLISHED in str(caught.value)


def test_live_takes_the_published_root_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    der = authority("Somebody")[1].public_bytes(Encoding.DER)
    file = tmp_path / "root.cer"
    file.write_bytes(der)
    with pytest.raises(ConfigurationError, match="not the published live root"):
        load_roots(file, "live")
    with pytest.raises(ConfigurationError, match="not the published live root"):
        load_roots(PUBLISHED_TEST_ROOT, "live")
    monkeypatch.setattr(certificates, "PUBLISHED_SHA256", {"live": certificates.fingerprint(der)})
    assert load_roots(file, "live").der == der


def test_a_test_root_may_be_anybodys_in_pem_or_der(tmp_path: Path) -> None:
    certificate = authority("Simulator")[1]
    read = set()
    file = tmp_path / "root"
    for encoding in (Encoding.PEM, Encoding.DER):
        file.write_bytes(certificate.public_bytes(encoding))
        read.add(load_roots(file, "test").der)
    assert read == {certificate.public_bytes(Encoding.DER)}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"\xff\xfe",
        b"-----BEGIN CERTIFICATE-----\nAAECAw==\n-----END CERTIFICATE-----\n" * 2,
        b"-----BEGIN CERTIFICATE-----\nAAECAw==\n-----END CERTIFICATE-----\nmore",
        b"\x30\x82" + bytes(65_536),
    ],
)
def test_a_file_with_anything_but_one_certificate_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "root.pem"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"root\.pem must be a file with one certificate"):
        load_roots(file, "test")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.pem cannot be read: No such file"):
        load_roots(tmp_path / "nowhere.pem", "test")


def test_what_only_looks_like_a_certificate_makes_no_context() -> None:
    with pytest.raises(ConfigurationError, match="here holds no certificate that OpenSSL takes"):
        terminal_tls(Root(b"\x30\x82\x01\x00" + bytes(256), "here"))


# -- connections -------------------------------------------------------------------------------------------------------


def server(folder: Path, issuer: Signer, *sent_along: x509.Certificate, days: int = 2) -> ssl.SSLContext:
    """A terminal's side: a certificate of its own, and what it sends along with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    chain = [certificate_for(NAME, key, issuer, is_ca=False, days=days), *sent_along]
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file = folder / "chain.pem"
    file.write_bytes(private + b"".join(each.public_bytes(Encoding.PEM) for each in chain))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file)
    return tls


def handshake(client: ssl.SSLContext, terminal: ssl.SSLContext) -> Any:
    """What the client sees of the terminal's certificate."""
    near, far = socket.socketpair()

    def answer() -> None:
        try:
            with terminal.wrap_socket(far, server_side=True) as stream:
                stream.recv(1)
        except OSError:
            far.close()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        with client.wrap_socket(near) as stream:
            stream.send(b"x")
            return stream.getpeercert()
    finally:
        near.close()
        thread.join(5)


def trusting(root: Signer) -> ssl.SSLContext:
    return terminal_tls(Root(root[1].public_bytes(Encoding.DER), "test"))


def test_a_chain_through_what_the_terminal_sends_along_is_trusted_and_named(tmp_path: Path) -> None:
    root = authority("Fleet root")
    between = authority("Fleet intermediate", root)
    seen = handshake(trusting(root), server(tmp_path, between, between[1]))
    assert common_name(seen) == NAME


def test_another_root_is_refused(tmp_path: Path) -> None:
    root, stranger = authority("Fleet root"), authority("Fleet root")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(trusting(root), server(tmp_path, stranger, stranger[1]))


def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    root = authority("Fleet root")
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        handshake(trusting(root), server(tmp_path, root, days=-1))


def test_nothing_older_than_tls_1_2_is_spoken_and_no_other_root_is_known() -> None:
    tls = terminal_tls(load_roots(None, "test"))
    assert tls.minimum_version is ssl.TLSVersion.TLSv1_2
    assert tls.verify_mode is ssl.CERT_REQUIRED
    assert list(map(common_name, tls.get_ca_certs())) == ["Adyen Test Terminal Fleet Root"]
