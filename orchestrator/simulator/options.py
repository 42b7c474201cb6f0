"""Command line options of the simulator."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.simulator.aftermath import REFUNDS, WEBHOOKS
from orchestrator.simulator.certificates import FAULTS as CERTIFICATE_FAULTS
from orchestrator.simulator.choice import Mix, parse_mix, parse_webhook_mix
from orchestrator.simulator.scenarios import SCENARIOS
from orchestrator.simulator.sealing import SharedKey

_SHOPPER_TIME_S = 2.0


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is given. Times are protocol seconds, divided by `time_scale`."""

    host: str
    port: int
    ledger: Path
    terminals: tuple[str, ...] = ()
    stores: Mapping[str, str] = field(default_factory=dict)
    """The store of each terminal; empty for none."""
    any_terminal: bool = False
    api_key: str = ""
    merchant: str = ""
    """Empty: every merchant account may use the device API."""
    notify: str = ""
    username: str = ""
    password: str = ""
    webhook: str = ""
    hmac_keys: tuple[str, ...] = ()
    """In hexadecimal; the first signs webhooks, the others are old."""
    webhook_mix: Mix | None = None
    reports_dir: Path | None = None
    seed: int = 0
    mix: Mix | None = None
    time_scale: float = 1.0
    shopper_time_s: float = _SHOPPER_TIME_S
    display: bool = False
    local_host: str = ""
    """Empty: no terminal has a port of its own."""
    local_port: int = 0
    root_out: Path | None = None
    certificates: Mapping[str, str] = field(default_factory=dict)
    """What is wrong with a terminal's certificate, by POIID, until a fault says otherwise."""
    nexo_keys: tuple[SharedKey, ...] = ()
    notify_encrypted: bool = False

    @property
    def newest_key(self) -> SharedKey | None:
        """What terminals seal with when they speak first."""
        return max(self.nexo_keys, key=lambda key: key.version, default=None)

    @property
    def merchant_account(self) -> str:
        """The merchant account that answers name."""
        return self.merchant or "ExampleMerchantPOS"


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    try:
        return host or "127.0.0.1", int(port)
    except ValueError as error:
        message = f"{text!r} is not HOST:PORT"
        raise argparse.ArgumentTypeError(message) from error


def _mix(text: str) -> Mix:
    try:
        return parse_mix(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _webhook_mix(text: str) -> Mix:
    try:
        return parse_webhook_mix(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _hmac_key(text: str) -> str:
    try:
        is_key = bool(bytes.fromhex(text))
    except ValueError:
        is_key = False
    if not is_key:
        raise argparse.ArgumentTypeError("hexadecimal digits are wanted, as the Customer Area shows them")
    return text


def _key(text: str) -> SharedKey:
    try:
        return SharedKey.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _certificate(text: str) -> tuple[str, str]:
    poi_id, _, fault = text.partition("=")
    if fault not in CERTIFICATE_FAULTS:
        message = f"POIID=FAULT is wanted, with one of {', '.join(CERTIFICATE_FAULTS)}"
        raise argparse.ArgumentTypeError(message)
    return poi_id, fault


def _positive(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return value


class _ListScenarios(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        lines = {name: played.line for table in (SCENARIOS, REFUNDS, WEBHOOKS) for name, played in table.items()}
        width = max(map(len, lines))
        sys.stdout.writelines(f"{name:{width}}  {line}\n" for name, line in lines.items())
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="counterfoil simulate",
        description="A fake cloud with fake terminals. A reference that ends in -<scenario> plays that scenario; "
        "a refund's own reference names the refund's, and -webhook-<behaviour> may follow any.",
        epilog="Reports without a server: --write-reports LEDGER, --made-up-reports N; --help after either says more.",
    )
    add = parser.add_argument
    add("--list", action=_ListScenarios, nargs=0, help="print the scenarios and exit")
    add("--listen", type=_address, default=("127.0.0.1", 8090), metavar="HOST:PORT", help="port 0 takes a free one")
    add("--ledger", type=Path, required=True, metavar="FILE", help="append-only; an existing one is continued")
    add(
        "--terminal",
        action="append",
        default=[],
        metavar="POIID[@STORE]",
        help="a connected terminal, and the store that listings know it under; repeatable",
    )
    add("--any-terminal", action="store_true", help="every POIID is a connected terminal")
    add("--api-key", default="", help="demand this x-API-key")
    add("--merchant", default="", help="the only merchant account of device paths, and the one in answers")
    add("--notify", default="", metavar="URL", help="where results of /async are posted")
    add("--username", default="", help="basic auth of --notify")
    add("--password", default="", help="basic auth of --notify")
    add("--seed", type=int, default=0)
    add(
        "--mix",
        type=_mix,
        metavar="MIX",
        help="default, local, results, clean, or name=rate,...; without it the amount decides",
    )
    add("--time-scale", type=_positive, default=1.0, metavar="X", help="divides every wait")
    add("--shopper-time-s", type=float, default=_SHOPPER_TIME_S, metavar="S", help="how long a shopper takes")
    add("--display", action="store_true", help="post display and event notifications too")
    _add_local(parser.add_argument_group("local terminals"))
    _add_books(parser.add_argument_group("webhooks and reports"))
    return parser


def _add_local(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--local-listen",
        type=_address,
        metavar="HOST:PORT",
        help="give each terminal /nexo over TLS, on ports from here",
    )
    add("--root-out", type=Path, metavar="PEM", help="write the root of the terminals' certificates here")
    add(
        "--certificate",
        type=_certificate,
        action="append",
        default=[],
        metavar="POIID=FAULT",
        help="a wrong certificate: " + ", ".join(CERTIFICATE_FAULTS) + "; repeatable",
    )
    add(
        "--nexo-key",
        type=_key,
        action="append",
        default=[],
        metavar="IDENTIFIER:VERSION:PASSPHRASE",
        help="a shared key of all terminals; repeatable",
    )
    add("--notify-encrypted", action="store_true", help="seal what is posted to --notify, with the newest key")


def _add_books(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--webhook", default="", metavar="URL", help="where standard webhooks are posted")
    add(
        "--hmac-key",
        type=_hmac_key,
        action="append",
        default=[],
        metavar="HEX",
        help="signs webhooks; repeatable: the others are old keys",
    )
    add(
        "--webhook-mix",
        type=_webhook_mix,
        metavar="MIX",
        help="default, or name=rate,... of how webhooks misbehave; without it they do not",
    )
    add("--reports-dir", type=Path, metavar="DIR", help="where reports are written, on POST /reports")


def parse(argv: Sequence[str] | None) -> Options:
    """Options from the command line; exits with a usage message when they are wrong."""
    parser = _parser()
    values = vars(parser.parse_args(argv))
    values["host"], values["port"] = values.pop("listen")
    named = [text.partition("@") for text in values.pop("terminal")]
    values["stores"] = {poi_id: store for poi_id, _, store in named}
    values["terminals"] = tuple(values["stores"])
    values["hmac_keys"] = tuple(values.pop("hmac_key"))
    values["nexo_keys"] = tuple(values.pop("nexo_key"))
    values["certificates"] = dict(values.pop("certificate"))
    local = values.pop("local_listen")
    if local is not None:
        values["local_host"], values["local_port"] = local
    for wrong in _contradictions(values):
        parser.error(wrong)
    return Options(**{name: value for name, value in values.items() if name != "list"})


def _contradictions(values: Mapping[str, object]) -> Iterator[str]:
    """What cannot be meant, in words that say what to add."""
    if values.get("local_host") and not values["terminals"]:
        yield "--local-listen: name the terminals that listen with --terminal"
    if values["notify_encrypted"] and not values["nexo_keys"]:
        yield "--notify-encrypted: name the key with --nexo-key"
    if not values["webhook"] and (values["hmac_keys"] or values["webhook_mix"]):
        yield "--hmac-key and --webhook-mix need --webhook"
    if not values.get("local_host") and (values["root_out"] or values["certificates"]):
        yield "--root-out and --certificate need --local-listen"
