"""Settings: every mistake at once, no secret in any message, and live that cannot be pointed elsewhere."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from config.reference import render_example, render_table
from config.settings import FIELDS, WORKER_CONCURRENCY_MAX, Settings, environment_name, load_settings, split_address
from config.sources import ALIASES
from orchestrator.errors import ConfigurationError
from orchestrator.terminal_api import certificates
from orchestrator.wire import MAX_CONNECTIONS

CHECKOUT = Path(__file__).resolve().parents[2]
KEY = "0123456789abcdef" * 4
CALLBACK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CANARY = "kEEp-m3-oUt"


def load(**variables: str) -> Settings:
    return load_settings({f"COUNTERFOIL_{name.upper()}": value for name, value in variables.items()})


def mistakes(**variables: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(**variables)
    return str(caught.value).splitlines()[1:]


def test_nothing_has_to_be_set() -> None:
    loaded = load_settings({})
    assert (loaded.environment, loaded.time_scale, loaded.sale_id) == ("test", 1, "counterfoil")
    assert loaded.database_url is None
    assert loaded.hmac_keys == ()


def test_every_mistake_is_reported_at_once_each_on_its_line() -> None:
    found = mistakes(time_scale="0.5", region="mars", listen="8080", database_url="mysql://h/d", hmac_keys="abc")
    assert len(found) == 5
    for name in ("TIME_SCALE", "REGION", "LISTEN", "DATABASE_URL", "HMAC_KEYS"):
        assert sum(f"COUNTERFOIL_{name} (environment): " in line for line in found) == 1


def test_mistakes_of_names_and_of_values_come_together() -> None:
    found = mistakes(regoin="us", region="mars")
    assert any("did you mean COUNTERFOIL_REGION?" in line for line in found)
    assert any("COUNTERFOIL_REGION (environment): must be 'eu'" in line for line in found)


def test_a_name_like_no_other_is_a_mistake_too() -> None:
    assert "there is no such setting" in mistakes(zzzzqqqq="1")[0]


def test_variables_of_the_test_suite_and_of_others_are_left_alone() -> None:
    load_settings({"COUNTERFOIL_TEST_REDIS_URL": "x", "PATH": "/bin", "ADYEN_WHATEVER": "y"})


BAD_VALUES = [
    ("database_url", f"postgres://u:{CANARY}@h/d"),
    ("database_url", f"postgresql+psycopg://u:{CANARY}@h:99999999/d"),
    ("broker_url", f"http://u:{CANARY}@h"),
    ("result_backend", CANARY),
    ("environment", CANARY),
    ("region", CANARY),
    ("transport", CANARY),
    ("cloud_api", CANARY),
    ("cloud_url", f"https://h:1/{CANARY}"),
    ("cloud_url", f"https://{CANARY}@h:1"),
    ("cloud_url", "ftp://h:1"),
    ("terminal_roots", f"/nowhere/{CANARY}.pem"),
    ("sale_id", CANARY * 9),
    ("sale_id", "kassa\n7"),
    ("api_key", f"{CANARY}\nx"),
    ("hmac_keys", f"{KEY},{CANARY}"),
    ("hmac_keys", KEY[:-2]),
    ("tag_keys", KEY[:-2]),
    ("callback_secrets", CANARY),
    ("callback_secrets", f"whsec_{CANARY}"),
    ("callback_url", CANARY),
    ("callback_allow_private", CANARY),
    ("time_scale", CANARY),
    ("time_scale", "0.99"),
    ("time_scale", "inf"),
    ("time_scale", "nan"),
    ("reconcile_cron", CANARY),
    ("reconcile_cron", "60 * * * *"),
    ("reconcile_cron", "0 9-7 * * *"),
    ("log_format", CANARY),
    ("listen", CANARY),
    ("listen", "h:0"),
    ("listen", "::1:8080"),
    ("worker_concurrency", "0"),
    ("worker_concurrency", CANARY),
    ("quorum_queues", CANARY),
    ("secrets_dir", "/nowhere/secrets"),
]


@pytest.mark.parametrize(("name", "value"), BAD_VALUES)
def test_a_bad_value_is_refused_by_name_and_never_repeated(name: str, value: str) -> None:
    found = mistakes(**{name: value})
    assert len(found) == 1
    assert f"COUNTERFOIL_{name.upper()}" in found[0]
    assert CANARY not in found[0]


def test_the_error_brings_no_cause_that_could_hold_values() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(api_key=f"{CANARY} {CANARY}")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("database_url", "postgresql+psycopg:///d?host=/run/pg"),
        ("broker_url", "redis+socket:///run/valkey.sock"),
        ("broker_url", "amqps://u:p@h//"),
        ("cloud_url", "http://127.0.0.1:9080"),
        ("reconcile_cron", "*/5 1,2 1-15 * 1-5"),
        ("listen", "[::1]:8080"),
        ("sale_id", "Kassa 7"),
    ],
)
def test_a_good_value_is_kept_as_written(name: str, value: str) -> None:
    assert getattr(load(**{name: value}), name) == value


def test_an_address_is_split_for_who_listens() -> None:
    assert split_address("[::1]:8080") == ("::1", 8080)
    assert split_address(load().listen) == ("127.0.0.1", 8080)


def test_lists_keep_their_order_current_first() -> None:
    second = KEY[::-1]
    keys = load(hmac_keys=f"{KEY}, {second}").hmac_keys
    assert [key.get_secret_value() for key in keys] == [KEY, second]


def test_live_refuses_what_points_it_elsewhere() -> None:
    elsewhere = "http://127.0.0.1:9"
    found = mistakes(environment="live", cloud_url=elsewhere, management_url=elsewhere, time_scale="2")
    assert len(found) == 3
    assert all("while the environment is live" in line for line in found)


def test_live_accepts_what_changes_no_promise() -> None:
    assert load(environment="live", time_scale="1", callback_allow_private="true").callback_allow_private


def test_live_refuses_roots_that_are_not_the_published_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = tmp_path / "root.pem"
    roots.write_text("-----BEGIN CERTIFICATE-----\nAAECAw==\n-----END CERTIFICATE-----\n")
    assert load(terminal_roots=str(roots)).terminal_roots == roots
    assert "published live root" in mistakes(environment="live", terminal_roots=str(roots))[0]
    monkeypatch.setattr(certificates, "PUBLISHED_SHA256", {"live": hashlib.sha256(b"\x00\x01\x02\x03").hexdigest()})
    assert load(environment="live", terminal_roots=str(roots)).terminal_roots == roots


@pytest.mark.parametrize(
    "given",
    [{"notification_username": "u"}, {"flower_user": "u"}, {"callback_url": "https://h/hook"}],
)
def test_half_of_a_pair_is_a_mistake(given: dict[str, str]) -> None:
    assert "set both or neither" in mistakes(**given)[0]


def test_an_empty_value_counts_as_none() -> None:
    assert load(database_url="", time_scale="").database_url is None


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_is_read_and_the_own_name_goes_before_it(alias: str) -> None:
    other = KEY[::-1]
    field = FIELDS[ALIASES[alias]]
    by_alias, by_both = load_settings({alias: KEY}), load_settings({alias: KEY, ALIASES[alias]: other})
    expected = load_settings({ALIASES[alias]: KEY}), load_settings({ALIASES[alias]: other})
    assert getattr(by_alias, field) == getattr(expected[0], field)
    assert getattr(by_both, field) == getattr(expected[1], field)


def test_environment_goes_before_dotenv_before_secrets_files(tmp_path: Path) -> None:
    (tmp_path / "counterfoil_sale_id").write_text("from-secrets\n")
    (tmp_path / "COUNTERFOIL_MERCHANT_ACCOUNT").write_text("from-secrets\n")
    (tmp_path / "adyen_api_key").write_text("from-secrets\n")
    (tmp_path / "somebody_elses").write_bytes(b"\xff\x00")
    dotenv = tmp_path / ".env"
    dotenv.write_text("COUNTERFOIL_SALE_ID=from-dotenv\nCOUNTERFOIL_MERCHANT_ACCOUNT='from$dotenv'\nPOSTGRES_USER=x\n")
    environ = {"COUNTERFOIL_SALE_ID": "from-environment", "COUNTERFOIL_SECRETS_DIR": str(tmp_path)}
    loaded = load_settings(environ, env_file=dotenv)
    assert loaded.sale_id == "from-environment"
    assert loaded.merchant_account == "from$dotenv"
    assert loaded.api_key is not None
    assert loaded.api_key.get_secret_value() == "from-secrets"


def test_mistakes_in_files_are_reported_with_the_others(tmp_path: Path) -> None:
    (tmp_path / "counterfoil_api_ky").write_text("x")
    (tmp_path / "counterfoil_api_key").write_bytes(b"\xff\xfe")
    (tmp_path / "counterfoil_tag_keys").write_bytes(b"a" * 70_000)
    found = mistakes(secrets_dir=str(tmp_path), region="mars")
    for part in ("did you mean COUNTERFOIL_API_KEY?", "cannot be read", "is larger than", "COUNTERFOIL_REGION"):
        assert any(part in line for line in found), part


def test_the_data_folder_follows_the_xdg_specification() -> None:
    assert load_settings({"XDG_DATA_HOME": "/x", "HOME": "/h"}).data_dir == Path("/x/counterfoil")
    assert load_settings({"XDG_DATA_HOME": "x", "HOME": "/h"}).data_dir == Path("/h/.local/share/counterfoil")
    assert load_settings({"HOME": "/h", "COUNTERFOIL_DATA_DIR": "/d"}).data_dir == Path("/d")


def secretive() -> Settings:
    return load(
        api_key=CANARY,
        hmac_keys=KEY,
        tag_keys=KEY,
        notification_username="u",
        notification_password=CANARY,
        flower_user="u",
        flower_password=CANARY,
        callback_url=f"https://u:{CANARY}@h/hook",
        callback_secrets=CALLBACK_SECRET,
        database_url=f"postgresql+psycopg://u:{CANARY}@h/d",
        broker_url=f"redis://:{CANARY}@h/1",
    )


def test_no_secret_shows_in_a_description_or_a_repr() -> None:
    loaded = secretive()
    shown = repr(loaded) + str(loaded) + f"{loaded}" + repr(loaded.describe())
    for secret in (CANARY, KEY, CALLBACK_SECRET):
        assert secret not in shown


def test_a_description_says_what_holds_and_where_it_came_from() -> None:
    shown = {each.name: each for each in load_settings({"ADYEN_API_KEY": "k"}).describe()}
    assert shown.keys() == FIELDS.keys()
    assert shown["COUNTERFOIL_API_KEY"][1:3] == ("set", "environment, as ADYEN_API_KEY")
    assert shown["COUNTERFOIL_TAG_KEYS"].value == "not set"
    assert shown["COUNTERFOIL_TIME_SCALE"][1:3] == ("1", "default")
    assert shown["COUNTERFOIL_DATABASE_URL"].value == "the embedded PostgreSQL, in the data folder"
    assert all(each.help for each in shown.values())


def test_settings_do_not_change_once_read() -> None:
    with pytest.raises(ValueError):
        load().sale_id = "other"  # type: ignore[misc]  # that is the promise


def test_constructing_settings_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALE_ID", "stray")
    monkeypatch.setenv("COUNTERFOIL_SALE_ID", "stray")
    assert Settings().sale_id == "counterfoil"


def test_the_schema_names_every_variable_and_no_field() -> None:
    schema: dict[str, Any] = json.loads(json.dumps(Settings.json_schema()))
    assert schema["properties"].keys() == FIELDS.keys()
    assert schema["additionalProperties"] is False
    text_parts = [part for part in schema["properties"].values() if part.get("type") == "string"]
    assert all(isinstance(part.get("default", ""), str) for part in text_parts)


def test_the_reference_in_the_docs_is_current() -> None:
    assert (CHECKOUT / "docs" / "settings.md").read_text(encoding="utf-8") == render_table(), (
        "python -m config.reference"
    )


def test_the_example_file_is_current_and_sets_nothing() -> None:
    text = (CHECKOUT / ".env.example").read_text(encoding="utf-8")
    assert text == render_example(), "python -m config.reference"
    assert all(not line or line.startswith("#") for line in text.splitlines())


#: Real ones have no place in a document.
ELIDED = {
    "api_key": KEY,
    "management_api_key": KEY,
    "hmac_keys": KEY,
    "tag_keys": KEY,
    "callback_secrets": CALLBACK_SECRET,
}
ON_DISK = {"terminal_roots", "secrets_dir"}  # name files of the reader's machine
PARTNERS = {
    "notification_username": ("COUNTERFOIL_NOTIFICATION_PASSWORD", "x"),
    "flower_user": ("COUNTERFOIL_FLOWER_PASSWORD", "x"),
    "callback_url": ("COUNTERFOIL_CALLBACK_SECRETS", CALLBACK_SECRET),
    "console_user_header": ("COUNTERFOIL_CONSOLE_TRUSTED_PROXIES", "10.0.0.5"),
}


def exemplary(name: str) -> dict[str, str]:
    """The variables that give a setting the value of its example."""
    example = ELIDED.get(name) or str((Settings.model_fields[name].examples or [""])[0])
    return dict([(environment_name(name), example), *filter(None, [PARTNERS.get(name)])])


@pytest.mark.parametrize("name", sorted(set(Settings.model_fields) - ON_DISK))
def test_every_example_is_accepted_from_a_variable_and_from_a_secrets_file(name: str, tmp_path: Path) -> None:
    given = exemplary(name)
    loaded = load_settings(given)
    if name not in ELIDED:
        assert getattr(loaded, name) != Settings.model_fields[name].default

    for number, (variable, text) in enumerate(sorted(given.items())):
        (tmp_path / (variable.lower() if number else variable)).write_text(f"{text}\n")
    from_files = load_settings({"COUNTERFOIL_SECRETS_DIR": str(tmp_path)})
    assert getattr(from_files, name) == getattr(loaded, name)
    origins = {shown.name: shown.origin for shown in from_files.describe()}
    assert origins[environment_name(name)] == f"secrets folder {tmp_path}"


def test_limits_of_refunds_are_read_by_merchant_and_currency() -> None:
    name = "COUNTERFOIL_UNREFERENCED_REFUND_LIMIT_MINOR"
    loaded = load_settings({name: "EUR:5000, Harbour Bakery/EUR:20000,*:0"})

    assert loaded.unreferenced_refund_limit_minor == {"EUR": 5000, "Harbour Bakery/EUR": 20000, "*": 0}
    assert not load_settings({}).unreferenced_refunds


@pytest.mark.parametrize(
    "text", ["5000", "EUR", "EUR:-1", "EUR:1.5", "eur:5", "EUR:1,EUR:2", "/EUR:1", "EUR:1,", "EUR:١"]
)
def test_a_limit_of_refunds_that_is_none_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(ConfigurationError, match="COUNTERFOIL_UNREFERENCED_REFUND_LIMIT_MINOR") as refused:
        load_settings({"COUNTERFOIL_UNREFERENCED_REFUND_LIMIT_MINOR": text})

    assert "EUR:5000" in str(refused.value)


def test_the_cloud_has_a_connection_for_each_thread_that_a_worker_may_have() -> None:
    """A pool that is full sends nothing: payments would end as not delivered, for want of a connection."""
    assert MAX_CONNECTIONS >= WORKER_CONCURRENCY_MAX
