"""Coverage-guided fuzzing of what reads a peer's bytes first: the strict JSON reader, the envelope, and answers.

    python fuzz/fuzz_wire.py CORPUS_FOLDER [libFuzzer options]

An input that raises anything but the reader's own error, or breaks one of the promises below, is kept as a crash.
"""

import json
import sys
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import atheris

with atheris.instrument_imports(include=["orchestrator"]):
    from orchestrator.errors import RemoteProtocolError
    from orchestrator.evidence import ResultReported
    from orchestrator.model import Money, Transaction
    from orchestrator.terminal_api import protection, strict_json
    from orchestrator.terminal_api.interpret import read_payment_answer, read_status_answer
    from orchestrator.terminal_api.notifications import read_notification

VECTORS = Path(__file__).parents[1] / "tests" / "vectors"
TX = Transaction(
    id=UUID("6f1c2d3e-0000-4000-8000-000000000001"),
    reference="ORDER-20251125-0001",
    merchant_account="ExampleMerchantPOS",
    poi_id="V400m-324000123",
    sale_id="KASSA-07",
    service_id="pay0000001",
    amount=Money("EUR", 1099),
)
RING = protection.KeyRing((protection.SharedKey("KeyLane3", 3, "Vector-Test#2025a"),))
LONGER_AT_MOST = 8  # one character outside ASCII becomes an escape of six; 1e30 becomes its 31 digits
POSITIVE = {"Success", "Partial"}


def one_input(data: bytes) -> None:
    """The first byte chooses the reader, the others are what it reads."""
    target, body = TARGETS[data[0] % len(TARGETS)] if data else TARGETS[0], data[1:]
    target(body)


def strict_reader(body: bytes) -> None:
    """What we read, the standard library reads alike; and so it does what we write of it, which is not much longer."""
    try:
        value = strict_json.loads(body)
    except strict_json.MalformedJson:
        return
    assert value == json.loads(body, parse_float=Decimal)
    again = strict_json.dumps(value)
    assert json.loads(again, parse_float=Decimal) == value
    assert len(again) <= LONGER_AT_MOST * len(body) + LONGER_AT_MOST


def sealed_answer(body: bytes) -> None:
    """Nobody who has not the key makes us believe anything good."""
    try:
        clear = protection.open_answer(body, RING)
    except protection.ProtectionError:
        return
    found = read_payment_answer(200, clear, TX, expects_result=True)
    genuine = clear != body
    assert genuine or not isinstance(found, ResultReported) or found.result not in POSITIVE


def pushed(body: bytes) -> None:
    """A pushed message is read or refused."""
    try:
        read_notification(protection.open_pushed(body, lambda _poi_id: RING))
    except RemoteProtocolError:
        return


def answer(body: bytes) -> None:
    """An answer is evidence, and a positive one holds every name of ours."""
    for found in (
        read_payment_answer(200, body, TX, expects_result=True),
        read_status_answer(200, body, TX, status_service_id="sta0000001"),
    ):
        if isinstance(found, ResultReported) and found.result in POSITIVE:
            for name in (TX.poi_id, TX.sale_id, TX.service_id):
                assert name in json.dumps(json.loads(body))


TARGETS = (strict_reader, sealed_answer, pushed, answer)


def seeds() -> list[bytes]:
    """The vectors' messages, and each of them sealed, for every reader that they suit."""
    found = []
    for path in sorted(VECTORS.glob("messages/*/*.json")):
        clear = path.read_bytes()
        found += [bytes([target]) + clear for target in range(len(TARGETS))]
        if b"SaleToPOIRes" in clear and "truncated" not in path.stem:
            found.append(bytes([1]) + protection.seal(clear, RING.keys[0]))
    for vector in json.loads((VECTORS / "nexo-reject.json").read_text())["vectors"]:
        found += [bytes([target]) + json.dumps(vector["body"]).encode() for target in (1, 2)]
    return found


def main() -> None:
    """Write the seeds, then fuzz."""
    corpus = Path(sys.argv[1])
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()):
        (corpus / f"seed-{number:04d}").write_bytes(seed)
    atheris.Setup([*sys.argv, "-max_len=20000", f"-dict={Path(__file__).with_name('wire.dict')}"], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
