"""The doctor looks at the ways to terminals, and names what is wrong with each."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings, load_settings
from orchestrator.bootstrap import Counterfoil
from orchestrator.cli import doctor_ways
from orchestrator.cli.findings import Verdict
from orchestrator.simulator.process import SimulatorProcess
from orchestrator.store import schema
from orchestrator.store.shared_keys import KeyPlace, SharedKeyStore
from orchestrator.store.terminals import TerminalStore
from orchestrator.store.words import KeyLevel
from tests.services import fresh_database

pytestmark = pytest.mark.integration

POI, MERCHANT = "V400m-324000123", "HarbourBakery"
PASSPHRASE = "Vector-Test#2025a"

#: Of what these checks need before they come to look.
NOTHING: Any = None

Verdicts = dict[str, Verdict]
Examine = Callable[..., Verdicts]


@pytest.fixture
def examine(postgres_url: str, tmp_path: Path) -> Iterator[Examine]:
    """Examine a shop with one terminal; the simulator's options and our settings decide what is wrong with it."""
    simulators: list[SimulatorProcess] = []

    def examined(transport: str, *options: str, keyed: bool = True, address: str = "", **changed: str) -> Verdicts:
        root = tmp_path / "root.pem"
        arguments = ["--terminal", POI, "--local-listen", "127.0.0.1:0", "--root-out", str(root), "--api-key", "right"]
        arguments += ["--nexo-key", f"Lane:1:{PASSPHRASE}", *options]
        simulators.append(SimulatorProcess(tmp_path / "ledger.jsonl", arguments).start())
        host, port = simulators[-1].terminals()[POI]
        with fresh_database(postgres_url) as database_url:
            schema.upgrade(database_url)
            (tmp_path / "passphrase").write_text(PASSPHRASE)
            names = {"API_KEY": "right", "CLOUD_URL": simulators[-1].url, "TERMINAL_ROOTS": str(root)} | changed
            given = {"DATABASE_URL": database_url, "BROKER_URL": "redis://127.0.0.1:1", "HOME": str(tmp_path), **names}
            chosen = load_settings({f"COUNTERFOIL_{name}": value for name, value in given.items() if name != "HOME"})
            counterfoil = Counterfoil(chosen)
            where = {"address": address or f"{host}:{port}"}
            TerminalStore(counterfoil.database).put(
                {"poi_id": POI, "merchant_account": MERCHANT, "transport": transport, **where}
            )
            if keyed:
                place = KeyPlace(KeyLevel.MERCHANT, MERCHANT)
                named = {"identifier": "Lane", "version": 1, "passphrase": f"file:{tmp_path / 'passphrase'}"}
                SharedKeyStore(counterfoil.database).add(place, **named, created_by="a test")
            rows = TerminalStore(counterfoil.database).many(None, "", 10)
            looks = (doctor_ways.cloud, doctor_ways.local)
            found = {each.check: each.verdict for look in looks for each in look(chosen, counterfoil, rows)}
            counterfoil.close()
        return found

    yield examined
    for simulator in simulators:
        simulator.stop()


def test_a_shop_in_order_is_found_in_order(examine: Examine) -> None:
    checks = ("cloud", "credential", "terminal root", "shared keys", "local terminals")

    assert examine("local") == dict.fromkeys(checks, Verdict.OK)


def test_a_shop_without_local_terminals_hears_nothing_of_them(examine: Examine) -> None:
    assert examine("async") == {"cloud": Verdict.OK, "credential": Verdict.OK}


#: What is wrong, which check sees it, and how bad it calls it: transport, simulator's options, and what else changes.
WRONG: dict[str, tuple[str, Verdict, tuple[str, ...], dict[str, Any]]] = {
    "a wrong API key": ("credential", Verdict.FAIL, ("async",), {"API_KEY": "wrong"}),
    "a cloud that takes no connection": ("cloud", Verdict.WARN, ("async",), {"CLOUD_URL": "http://127.0.0.1:1"}),
    "a terminal without a key": ("shared keys", Verdict.WARN, ("local",), {"keyed": False}),
    "another certificate at the address": (
        "local terminals",
        Verdict.FAIL,
        ("local", "--certificate", f"{POI}=other-terminal"),
        {},
    ),
    "a terminal that is off": ("local terminals", Verdict.WARN, ("local",), {"address": "127.0.0.1:1"}),
}
#: In tests of their own: they take the live environment.
LIVE = ("cloud", "terminal root")
MADE_TO_FAIL = frozenset(check for check, *_ in WRONG.values()) | frozenset(LIVE)


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_with_the_ways_is_seen_before_the_first_payment(examine: Examine, what: str) -> None:
    check, verdict, arguments, changed = WRONG[what]

    assert examine(*arguments, **changed)[check] is verdict


def live(**changed: str) -> Settings:
    names = {"ENVIRONMENT": "live", "DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/none", **changed}
    return load_settings({f"COUNTERFOIL_{name}": value for name, value in names.items()})


def test_a_live_region_that_the_terminal_api_has_no_host_in_is_seen() -> None:
    [finding] = doctor_ways.cloud(live(REGION="nea"), NOTHING, [])

    assert (finding.check, finding.verdict) == ("cloud", Verdict.FAIL)
    assert "choose" in finding.text


def test_live_terminals_without_the_published_root_are_seen() -> None:
    rows = [{"poi_id": POI, "merchant_account": MERCHANT, "transport": "local"}]

    [finding] = doctor_ways.local(live(), NOTHING, rows)

    assert (finding.check, finding.verdict) == ("terminal root", Verdict.FAIL)


def test_who_cannot_reach_the_cloud_is_told_what_to_allow_by_name_and_never_by_address() -> None:
    finding = doctor_ways._unreachable("127.0.0.1", 1)

    assert finding is not None
    for name in ("*.adyen.com", "*.adyenpayments.com", "by name and never by address"):
        assert name in finding.text
