"""``counterfoil terminals key`` and ``trust``, as an operator uses them to give terminals a key and a new one."""

import json
import secrets
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from config.settings import settings
from orchestrator.cli.root import Exit, app, run
from orchestrator.store.shared_keys import KeyPlace, SharedKeyStore, place_of
from orchestrator.store.terminals import TerminalStore
from orchestrator.store.words import KeyLevel
from tests.certificates import authority
from tests.integration.management_support import API_KEY, FakeManagement, management_api
from tests.integration.store_support import MERCHANT, Shop, shop_in
from tests.protocol_vectors import VECTORS
from tests.services import fresh_redis

pytestmark = pytest.mark.integration

GOOD, BETTER = "Vector-Test#2025a", "Another_Pass+Phrase1?"
ROOT = str(VECTORS / "certs" / "adyen-terminalfleet-test.pem")
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def shop(postgres_url: str) -> Iterator[Shop]:
    with shop_in(postgres_url) as opened:
        yield opened


@pytest.fixture(scope="module")
def broker_url(redis_url: str) -> Iterator[str]:
    with fresh_redis(redis_url) as url:
        yield url


@pytest.fixture
def platform(shop: Shop, broker_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeManagement]:
    """A platform, and the settings of an operator who may change its terminals' keys; no key is kept yet."""
    with management_api() as fake:
        given = {
            "DATABASE_URL": shop.url,
            "BROKER_URL": broker_url,
            "MANAGEMENT_URL": fake.url,
            "MANAGEMENT_API_KEY": API_KEY,
            "COMPANY_ACCOUNT": "Harbour",
            "MERCHANT_ACCOUNT": MERCHANT,
        }
        for name, value in given.items():
            monkeypatch.setenv(f"COUNTERFOIL_{name}", value)
        monkeypatch.setenv("LANE_KEY", GOOD)
        monkeypatch.setenv("LANE_KEY_2", BETTER)
        monkeypatch.chdir(tmp_path)
        shop.sql("DELETE FROM shared_keys")
        settings.cache_clear()
        yield fake
        settings.cache_clear()


@pytest.fixture
def poi_id(shop: Shop) -> str:
    made = f"V400m-{secrets.randbelow(10**9):09d}"
    TerminalStore(shop.database).put(
        {"poi_id": made, "merchant_account": MERCHANT, "store": "Quay", "transport": "async", "address": None}
    )
    return made


def key(*arguments: str) -> int:
    return run(app, ["terminals", "key", *arguments])


def kept(shop: Shop) -> list[tuple[str, int, str]]:
    return [(row["identifier"], row["version"], row["passphrase"]) for row in SharedKeyStore(shop.database).all()]


SET = ("--identifier", "lane", "--version", "3", "--passphrase-env", "LANE_KEY")
LEVELS = [
    (("--company",), "/v3/companies/Harbour/terminalSettings"),
    (("--merchant", MERCHANT), f"/v3/merchants/{MERCHANT}/terminalSettings"),
    (("--store", "Quay"), f"/v3/merchants/{MERCHANT}/stores/Quay/terminalSettings"),
]


@pytest.mark.parametrize(("level", "path"), LEVELS)
def test_a_key_is_set_here_and_at_the_platform(
    shop: Shop, platform: FakeManagement, capsys: Captured, level: tuple[str, ...], path: str
) -> None:
    assert key("set", *level, *SET) == Exit.DONE
    assert platform.key(path) == {"identifier": "lane", "passphrase": GOOD, "version": 3}
    assert kept(shop) == [("lane", 3, "env:LANE_KEY")]
    assert key("set", *level, *SET) == Exit.DONE
    assert len(platform.given) == 1
    told = capsys.readouterr()
    assert "is set here and at the platform" in told.out
    assert "the platform had it already" in told.out
    assert GOOD not in told.out + told.err


def test_a_key_of_one_terminal_comes_first_in_its_ring(
    shop: Shop, platform: FakeManagement, capsys: Captured, poi_id: str
) -> None:
    assert key("set", "--company", *SET) == Exit.DONE
    assert key("set", poi_id, *SET) == Exit.DONE
    assert platform.key(f"/v3/terminals/{poi_id}/terminalSettings")
    capsys.readouterr()
    assert key("show", poi_id, "--json") == Exit.DONE
    shown = json.loads(capsys.readouterr().out)
    assert [(each["level"], each["seals"], each["found"]) for each in shown["keys"]] == [
        ("terminal", True, True),
        ("company", False, True),
    ]
    assert shown["platform"]["same_passphrase"] is True


def test_a_rotation_keeps_the_old_key_until_it_is_dropped(
    shop: Shop, platform: FakeManagement, capsys: Captured
) -> None:
    assert key("set", "--company", *SET) == Exit.DONE
    assert key("rotate", "--company", "--passphrase-env", "LANE_KEY_2") == Exit.DONE
    assert kept(shop) == [("lane", 4, "env:LANE_KEY_2"), ("lane", 3, "env:LANE_KEY")]
    found = platform.key("/v3/companies/Harbour/terminalSettings")
    assert found == {"identifier": "lane", "passphrase": BETTER, "version": 4}
    assert "until no terminal has it and you drop it: version 3." in capsys.readouterr().out
    assert key("drop", "--company", "--version", "3") == Exit.DONE
    assert kept(shop) == [("lane", 4, "env:LANE_KEY_2")]
    assert "version 4 is the newest now" in capsys.readouterr().out
    assert key("drop", "--company", "--version", "4") == Exit.DONE
    assert "there is none left at this level" in capsys.readouterr().out


def test_a_passphrase_may_be_in_a_file(shop: Shop, platform: FakeManagement, tmp_path: Path) -> None:
    file = tmp_path / "lane_key"
    file.write_text(f"{GOOD}\n")
    place = ("--company", "--identifier", "lane", "--version", "1", "--passphrase-file", "lane_key", "--local-only")
    assert key("set", *place) == Exit.DONE
    assert kept(shop) == [("lane", 1, f"file:{file}")]
    assert not platform.asked


def test_show_lists_where_passphrases_are_and_whether_they_are_there(
    shop: Shop, platform: FakeManagement, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert key("show") == Exit.DONE
    assert "There is no shared key" in capsys.readouterr().out
    assert key("set", "--company", *SET, "--local-only") == Exit.DONE
    monkeypatch.delenv("LANE_KEY")
    capsys.readouterr()
    assert key("show") == Exit.DONE
    cells = capsys.readouterr().out.splitlines()[1].split("\t")
    assert cells[:7] == ["company", "", "lane", "3", "env:LANE_KEY", "no", ""]


@pytest.mark.parametrize(
    ("at_platform", "said"),
    [
        (None, "no key at this level, or the API key may not see it"),
        ({"identifier": "lane", "version": 3, "passphrase": GOOD}, "with the passphrase that is kept here"),
        ({"identifier": "lane", "version": 3, "passphrase": BETTER}, "with ANOTHER passphrase"),
        ({"identifier": "lane", "version": 4, "passphrase": BETTER}, "lane version 4, which is not kept here"),
        ({"identifier": "lane", "version": 3}, "its passphrase is not shown to the API key"),
    ],
)
def test_show_says_what_the_platform_has(
    platform: FakeManagement, capsys: Captured, at_platform: dict[str, Any] | None, said: str
) -> None:
    assert key("set", "--company", *SET, "--local-only") == Exit.DONE
    if at_platform:
        platform.settings["/v3/companies/Harbour/terminalSettings"] = {"nexo": {"encryptionKey": at_platform}}
    capsys.readouterr()
    assert key("show", "--company") == Exit.DONE
    told = capsys.readouterr().out
    assert said in told
    assert BETTER not in told


def test_a_key_that_the_platform_refuses_is_not_kept(shop: Shop, platform: FakeManagement, capsys: Captured) -> None:
    platform.refuses["PATCH"] = (403, b"")
    assert key("set", "--company", *SET) == Exit.ERROR
    assert kept(shop) == []
    assert "Advanced read and write" in capsys.readouterr().err


def test_a_key_that_the_platform_may_have_is_kept(shop: Shop, platform: FakeManagement, capsys: Captured) -> None:
    platform.refuses["PATCH"] = (500, b"")
    assert key("set", "--company", *SET) == Exit.ERROR
    assert kept(shop) == [("lane", 3, "env:LANE_KEY")]
    assert "The key is kept here." in capsys.readouterr().err


def test_a_refused_change_leaves_a_key_that_was_there(shop: Shop, platform: FakeManagement) -> None:
    assert key("set", "--company", *SET, "--local-only") == Exit.DONE
    platform.refuses["PATCH"] = (403, b"")
    assert key("set", "--company", *SET) == Exit.ERROR
    assert kept(shop) == [("lane", 3, "env:LANE_KEY")]


NEW = ("--company", "--identifier", "lane", "--version", "3")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("set", *SET), "name a level: --company, --merchant ACCOUNT, --store STORE or a POIID"),
        (("set", "--company", "--store", "Quay", *SET), "name one level"),
        (("set", "V400m-000000001", *SET), "no terminal V400m-000000001 is registered"),
        (("set", *NEW), "either --passphrase-env VAR or --passphrase-file FILE"),
        (("set", *NEW, "--passphrase-env", "LANE_KEY", "--passphrase-file", "f"), "either --passphrase-env VAR"),
        (("set", *NEW, "--passphrase-env", "NOWHERE"), "env:NOWHERE is empty or not there"),
        (("set", *NEW, "--passphrase-env", "not a name"), "env:NAME"),
        (("set", *NEW, "--passphrase-env", "WEAK_KEY"), "breaks the platform's rules: it must have an upper-case"),
        (("set", "--company", "--identifier", " lane", *SET[2:]), "--identifier must be 1 to 80"),
        (("rotate", "--company", "--passphrase-env", "LANE_KEY"), "there is no key of the company"),
        (("drop", "--company", "--version", "9"), "there is no such key of the company"),
        (("show", "--company", "--merchant", MERCHANT), "name one level"),
    ],
)
def test_a_mistake_is_told_with_its_remedy_and_changes_nothing(
    shop: Shop,
    platform: FakeManagement,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.setenv("WEAK_KEY", "hunter2-weak")
    assert key(*arguments) == Exit.ERROR
    told = capsys.readouterr()
    assert said in told.err
    assert told.err.count("\n") == 1
    assert "hunter2" not in told.err
    assert kept(shop) == []
    assert not platform.given


def test_another_passphrase_takes_another_version(shop: Shop, platform: FakeManagement, capsys: Captured) -> None:
    assert key("set", "--company", *SET) == Exit.DONE
    assert key("set", *NEW, "--passphrase-env", "LANE_KEY_2") == Exit.ERROR
    assert "has another passphrase; set a higher version, or rotate the key" in capsys.readouterr().err
    assert key("rotate", "--company", "--passphrase-env", "LANE_KEY") == Exit.ERROR
    assert "take a new one" in capsys.readouterr().err
    assert kept(shop) == [("lane", 3, "env:LANE_KEY")]


@pytest.mark.parametrize(("missing", "level"), [("MANAGEMENT_API_KEY", "--company"), ("COMPANY_ACCOUNT", "--company")])
def test_what_the_platform_needs_is_asked_for_before_anything_changes(
    shop: Shop, platform: FakeManagement, capsys: Captured, monkeypatch: pytest.MonkeyPatch, missing: str, level: str
) -> None:
    monkeypatch.delenv(f"COUNTERFOIL_{missing}")
    settings.cache_clear()
    assert key("set", level, *SET) == Exit.ERROR
    assert f"COUNTERFOIL_{missing} is not set" in capsys.readouterr().err
    assert kept(shop) == []
    assert key("set", level, *SET, "--local-only") == Exit.DONE


def test_two_keys_of_one_version_are_told_apart_by_name(shop: Shop, platform: FakeManagement, capsys: Captured) -> None:
    assert key("set", "--company", *SET, "--local-only") == Exit.DONE
    assert key("set", "--company", "--identifier", "till", *SET[2:], "--local-only") == Exit.DONE
    assert key("drop", "--company", "--version", "3") == Exit.ERROR
    assert "name one by --identifier" in capsys.readouterr().err
    assert key("drop", "--company", "--version", "3", "--identifier", "lane") == Exit.DONE
    assert kept(shop) == [("till", 3, "env:LANE_KEY")]


def test_a_file_of_terminals_names_keys_too(shop: Shop, platform: FakeManagement, tmp_path: Path) -> None:
    file = tmp_path / "terminals.toml"
    entry = '[[terminal]]\npoi_id = "S1F2-000158213605012"\ntransport = "local"\naddress = "10.0.4.17"\n'
    file.write_text(entry + 'key = { identifier = "lane", version = 1, passphrase = "env:LANE_KEY" }\n')
    assert run(app, ["terminals", "import", str(file)]) == Exit.DONE
    (row,) = SharedKeyStore(shop.database).all()
    assert place_of(row) == KeyPlace(KeyLevel.TERMINAL, MERCHANT, "S1F2-000158213605012")
    assert kept(shop) == [("lane", 1, "env:LANE_KEY")]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("7", "S1F2-000158213605012: key: must be like"),
        ('{ identifier = "lane", version = true, passphrase = "env:A" }', "key: must be like"),
        ('{ identifier = "lane", version = 1, passphrase = "hunter2" }', "env:NAME"),
        ('{ identifier = "lane", version = 1 }', "key: must be like"),
        ('{ identifier = "lane", version = 1, passphrase = "env:A", x = 1 }', "key: must be like"),
    ],
)
def test_a_file_with_a_wrong_key_registers_nobody(
    shop: Shop, platform: FakeManagement, tmp_path: Path, capsys: Captured, wrong: str, said: str
) -> None:
    file = tmp_path / "terminals.toml"
    file.write_text(f'[[terminal]]\npoi_id = "S1F2-000158213605012"\ntransport = "async"\nkey = {wrong}\n')
    assert run(app, ["terminals", "import", str(file)]) == Exit.ERROR
    told = capsys.readouterr().err
    assert said in told
    assert "hunter2" not in told
    assert kept(shop) == []


# -- trust -------------------------------------------------------------------------------------------------------------

SHA256 = "3A:33:C3:34:C3:0F:69:46:E9:75:4B:6B:B1:67:2B:54:6F:BA:A9:66:FB:6A:4B:58:AA:4E:3A:BE:80:A7:EC:BE"
SHA1 = "D5:02:7F:A8:B3:93:96:DB:2A:4F:B1:86:EF:61:E4:A4:40:A7:30:51"


@pytest.mark.parametrize("file", [(), (ROOT,)])
def test_the_published_root_is_shown_as_openssl_shows_it(
    platform: FakeManagement, capsys: Captured, file: tuple[str, ...]
) -> None:
    assert run(app, ["terminals", "trust", *file]) == Exit.DONE
    told = capsys.readouterr().out
    for part in (SHA256, SHA1, "CN=Adyen Test Terminal Fleet Root", "2018-04-20 to 2048-04-12", "published test root"):
        assert part in told


def test_a_root_in_der_is_the_same_root(platform: FakeManagement, capsys: Captured, tmp_path: Path) -> None:
    file = tmp_path / "root.cer"
    file.write_bytes(ssl.PEM_cert_to_DER_cert(Path(ROOT).read_text()))
    assert run(app, ["terminals", "trust", str(file), "--json"]) == Exit.DONE
    shown = json.loads(capsys.readouterr().out)
    assert (shown["sha256"], shown["sha1"], shown["published_for"], shown["valid_now"]) == (SHA256, SHA1, "test", True)


def test_a_root_that_nobody_published_is_status_1(platform: FakeManagement, capsys: Captured, tmp_path: Path) -> None:
    file = tmp_path / "root.cer"
    file.write_bytes(authority("Somebody")[1].public_bytes(Encoding.DER))
    assert run(app, ["terminals", "trust", str(file)]) == Exit.ERROR
    assert "It is NOT a root that the platform published" in capsys.readouterr().out


def test_live_without_a_root_says_where_to_get_it(
    platform: FakeManagement, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MANAGEMENT_URL", "MANAGEMENT_API_KEY"):
        monkeypatch.delenv(f"COUNTERFOIL_{name}")
    monkeypatch.setenv("COUNTERFOIL_ENVIRONMENT", "live")
    settings.cache_clear()
    assert run(app, ["terminals", "trust"]) == Exit.ERROR
    assert "docs.adyen.com" in capsys.readouterr().err
    assert run(app, ["terminals", "trust", ROOT]) == Exit.DONE
    assert "It is the published test root; the environment is live." in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, b"hello", b"\x30\x82\x01\x00" + bytes(256)])
def test_a_file_that_is_no_certificate_is_told(
    platform: FakeManagement, capsys: Captured, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "root.pem"
    if content is not None:
        file.write_bytes(content)
    assert run(app, ["terminals", "trust", str(file)]) == Exit.ERROR
    assert str(file) in capsys.readouterr().err
