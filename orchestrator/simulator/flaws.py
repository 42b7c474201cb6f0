"""Sealed answers that must not be believed: spoilt, forged, replayed, reflected."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace

from orchestrator.simulator.channel import Channel
from orchestrator.simulator.encoding import Json
from orchestrator.simulator.scenarios import Flaw
from orchestrator.simulator.sealing import REQUEST, RESPONSE, SharedKey
from orchestrator.simulator.server import Reply, json_reply

_WRONG = "Another-Passphrase-2"  # a passphrase that nobody was given
_OLDER = "old0000001"  # the ServiceID of a payment that was approved before
_NOBODYS_VERSION = 1000  # above every version in use


def flawed(flaw: Flaw, channel: Channel, truth: Json, forge: Callable[[str], Json]) -> Reply:
    """The answer to a payment whose truth is this, with the flaw that its scenario names.

    `forge` makes an approval for a ServiceID: nobody gave it, or it was given to an older payment.
    """
    key = channel.key
    if key is None or flaw is Flaw.NONE:
        return channel.from_terminal(truth)
    if flaw is Flaw.PLAINTEXT:
        return json_reply(forge(truth[RESPONSE]["MessageHeader"]["ServiceID"]))
    if flaw is Flaw.REPLAYED:
        return channel.from_terminal(forge(_OLDER))
    if flaw is Flaw.REFLECTED:
        return json_reply({RESPONSE: json.loads(channel.sealed)[REQUEST]})
    if flaw is Flaw.HEADER_MISMATCH:
        envelope = json.loads(channel.from_terminal(forge(_OLDER)).body)
        envelope[RESPONSE]["MessageHeader"] = truth[RESPONSE]["MessageHeader"]
        return json_reply(envelope)
    if flaw is Flaw.OTHER_KEY:
        other = SharedKey.derive(key.identifier, key.version, _WRONG)
        return replace(channel, key=other).from_terminal(truth)
    return _spoilt(flaw, channel.from_terminal(truth))


def _spoilt(flaw: Flaw, sealed: Reply) -> Reply:
    if flaw is Flaw.TRUNCATED:
        return replace(sealed, body=sealed.body[: len(sealed.body) // 2])
    envelope = json.loads(sealed.body)
    if flaw is Flaw.OTHER_VERSION:
        envelope[RESPONSE]["SecurityTrailer"]["KeyVersion"] += _NOBODYS_VERSION
    else:
        blob = bytearray(base64.b64decode(envelope[RESPONSE]["NexoBlob"]))
        blob[len(blob) // 2] ^= 1
        envelope[RESPONSE]["NexoBlob"] = base64.b64encode(blob).decode()
    return json_reply(envelope)
