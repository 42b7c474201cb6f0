"""Which path leads where: the legacy cloud, the device API, and the simulator's own controls."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from http import HTTPStatus
from urllib.parse import parse_qs

from orchestrator.simulator import messages
from orchestrator.simulator.aftermath import REFUNDS, WEBHOOKS
from orchestrator.simulator.by_hand import wanted_item
from orchestrator.simulator.channel import Channel
from orchestrator.simulator.cloud import Cloud
from orchestrator.simulator.encoding import Json
from orchestrator.simulator.faults import Faults
from orchestrator.simulator.incoming import NotUnderstoodError, parse_message
from orchestrator.simulator.report_command import write_wanted
from orchestrator.simulator.scenarios import SCENARIOS
from orchestrator.simulator.server import Answer, Reply, Request, json_reply

_DEVICE_PATH = re.compile(r"/v1/merchants/(?P<merchant>[^/]+)/devices/(?P<device>[^/]+)/(?P<what>sync|async|status)")
_LISTING_PATH = re.compile(r"/v1/merchants/(?P<merchant>[^/]+)/connectedDevices")
_REPORT_PATH = re.compile(r"GET /reports/(?P<name>\w[\w.-]*\.csv)")
_PROBLEM = "application/problem+json"
_REQUEST_ID = "0f6f1c5a9a7d4e21a0b1f0a7c2d3e4f6"


@dataclass(eq=False)
class Routes:
    """The handler of every request."""

    cloud: Cloud

    async def __call__(self, request: Request) -> Answer:
        """Answer a request."""
        route = f"{request.method} {request.path}"
        controls = self._controls()
        if route in controls:
            return await controls[route](request)
        key = self.cloud.options.api_key
        is_device_api = request.path.startswith("/v1/")
        if key and request.headers.get("x-api-key") != key:
            return self._unauthorised(is_device_api=is_device_api)
        if is_device_api:
            return await self._device_api(request)
        if found := _REPORT_PATH.fullmatch(route):
            return await self._report(found["name"])
        if route in ("POST /async", "POST /sync"):
            channel = Channel(is_device_api=False, is_held=route.endswith("/sync"))
            return await self.cloud.receive(request.body, channel)
        if route == "POST /connectedTerminals":
            return self._connected_terminals(_json_object(request.body))
        return Reply(HTTPStatus.NOT_FOUND)

    def _controls(self) -> dict[str, Callable[[Request], Awaitable[Answer]]]:
        return {
            "GET /healthz": self._health,
            "GET /terminals": self._terminals,
            "GET /ledger": self._ledger,
            "POST /scenario": self._scenario,
            "POST /events": self._event,
            "POST /webhooks/send": self._send_webhook,
            "POST /reports": self._write_reports,
            "GET /faults": self._show_faults,
            "POST /faults": self._set_faults,
        }

    @staticmethod
    def _unauthorised(*, is_device_api: bool) -> Answer:
        if is_device_api:
            return json_reply(messages.problem(401, "Unauthorized"), HTTPStatus.UNAUTHORIZED, _PROBLEM)
        html = b"<html><head><title>401 Unauthorized</title></head><body></body></html>"
        return Reply(HTTPStatus.UNAUTHORIZED, html, "text/html")

    def _connected_terminals(self, wanted: Json) -> Answer:
        merchant = self.cloud.options.merchant
        if not wanted.get("merchantAccount") or merchant not in ("", wanted["merchantAccount"]):
            return json_reply(messages.invalid_merchant(), HTTPStatus.FORBIDDEN)
        return json_reply({"uniqueTerminalIds": self._connected(str(wanted.get("store") or ""))})

    def _connected(self, store: str) -> list[str]:
        """The terminals that are connected, of one store where it is named."""
        stores = self.cloud.options.stores
        return [
            poi_id
            for poi_id in self.cloud.terminals
            if self.cloud.connected(poi_id) is not None and store in ("", stores.get(poi_id, ""))
        ]

    async def _device_api(self, request: Request) -> Answer:
        found = _DEVICE_PATH.fullmatch(request.path) or _LISTING_PATH.fullmatch(request.path)
        if found is None:
            return json_reply(messages.problem(404, "Not Found"), HTTPStatus.NOT_FOUND, _PROBLEM)
        parts = found.groupdict()
        if self.cloud.options.merchant not in ("", parts["merchant"]):
            detail = "API credential has no access to the merchant account"
            body = messages.problem(403, "Forbidden", detail, requestId=_REQUEST_ID)
            return json_reply(body, HTTPStatus.FORBIDDEN, _PROBLEM)
        if "device" not in parts:
            store = parse_qs(request.query).get("store", [""])[0]
            return json_reply({"uniqueDeviceIds": self._connected(store)})
        if parts["what"] == "status":
            status = "ONLINE" if self.cloud.connected(parts["device"]) else "OFFLINE"
            return json_reply({"deviceId": parts["device"], "status": status})
        return await self._device_message(request, parts["device"], is_held=parts["what"] == "sync")

    async def _device_message(self, request: Request, device: str, *, is_held: bool) -> Answer:
        try:
            poi_id = parse_message(request.body).header.poi_id
        except NotUnderstoodError:
            poi_id = device
        if poi_id != device:
            field = {"name": "MessageHeader.POIID", "value": poi_id, "message": "must equal the deviceId"}
            detail = "MessageHeader.POIID differs from the device in the path"
            body = messages.problem(422, "Invalid request", detail, requestId=_REQUEST_ID, invalidFields=[field])
            return json_reply(body, HTTPStatus.UNPROCESSABLE_ENTITY, _PROBLEM)
        return await self.cloud.receive(request.body, Channel(is_device_api=True, is_held=is_held))

    # -- the simulator's own controls: no API key --

    async def _health(self, _: Request) -> Answer:
        return json_reply(
            {"status": "ok", "payments_running": sum(t.running is not None for t in self.cloud.terminals.values())}
        )

    async def _terminals(self, _: Request) -> Answer:
        """Each terminal: its own port (null without one), whether it can be reached, what it runs and is busy with."""
        return json_reply([self._terminal(poi_id) for poi_id in self.cloud.terminals])

    def _terminal(self, poi_id: str) -> dict[str, object]:
        host, port = self.cloud.addresses.get(poi_id, (None, None))
        running = self.cloud.terminals[poi_id].running
        return {
            "poi_id": poi_id,
            "address": host,
            "port": port,
            "connected": self.cloud.connected(poi_id) is not None,
            "running": running.asked.service_id if running else None,
            "state": self.cloud.faults.now().states.get(poi_id),
        }

    async def _ledger(self, request: Request) -> Answer:
        """The lines after `?after=N`, or all; what is not on disk yet is waited for."""
        await self.cloud.ledger.durable()
        after = int(parse_qs(request.query).get("after", ["0"])[0])
        lines = await asyncio.to_thread(self.cloud.ledger.path.read_bytes)
        return Reply(200, b"[" + b",\n".join(lines.splitlines()[after:]) + b"]", "application/json")

    async def _scenario(self, request: Request) -> Answer:
        """`{"reference": …, "scenario": …}` or `{"terminal": POIID, "scenario": …}`; an empty scenario ends it."""
        wanted = _json_object(request.body)
        name = wanted.get("scenario")
        names = [*SCENARIOS, *REFUNDS, *WEBHOOKS] if "reference" in wanted else list(SCENARIOS)
        if name not in names and name != "":
            return json_reply({"error": f"no scenario {name!r}", "scenarios": names}, 422)
        choice = self.cloud.choice
        for member, table in (("reference", choice.by_reference), ("terminal", choice.by_terminal)):
            if member in wanted:
                table[str(wanted[member])] = str(name)
                return json_reply({member: wanted[member], "scenario": name})
        return json_reply({"error": "name a reference or a terminal"}, 422)

    async def _event(self, request: Request) -> Answer:
        """`{"terminal": POIID, "event": EventToNotify, "details": …}`: the terminal reports this; details may miss."""
        wanted = _json_object(request.body)
        poi_id, event = str(wanted.get("terminal", "")), str(wanted.get("event", ""))
        if self.cloud.terminal(poi_id) is None or not event:
            return json_reply({"error": "name a terminal of this simulator, and an event"}, 422)
        await self.cloud.dialogues.report(poi_id, event, str(wanted.get("details", "")))
        return json_reply({"terminal": poi_id, "event": event})

    async def _send_webhook(self, request: Request) -> Answer:
        """Post one webhook now, as `by_hand` reads it; answers its HTTP status, 0 for none."""
        books = self.cloud.dialogues.books
        if books.sender is None:
            return json_reply({"error": "there is nobody to tell: start with --webhook URL"}, 422)
        try:
            item, signing = wanted_item(_json_object(request.body), books, self.cloud.options.merchant_account)
        except ValueError as error:
            return json_reply({"error": str(error)}, 422)
        return json_reply({"status": await books.sender.once([item], signing)})

    async def _write_reports(self, request: Request) -> Answer:
        """`{"day": …, "kinds": […], "discrepancies": {kind: count}, "seed": …}`; all but the day may miss."""
        folder, wanted = self.cloud.options.reports_dir, _json_object(request.body)
        if folder is None:
            return json_reply({"error": "there is no folder for them: start with --reports-dir DIR"}, 422)
        await self.cloud.ledger.durable()
        try:
            written = await asyncio.to_thread(
                write_wanted, wanted, folder, self.cloud.ledger.path, self.cloud.options.merchant_account
            )
        except (ValueError, TypeError) as error:
            return json_reply({"error": str(error)}, 422)
        for name in written.files.values():
            url = f"http://{request.headers.get('host', '')}/reports/{name}"
            self.cloud.dialogues.books.announce_report(name, url)
        return json_reply(asdict(written))

    async def _report(self, name: str) -> Answer:
        folder = self.cloud.options.reports_dir
        if folder is None or not (folder / name).is_file():
            return Reply(HTTPStatus.NOT_FOUND)
        return Reply(200, await asyncio.to_thread((folder / name).read_bytes), "text/csv")

    async def _show_faults(self, _: Request) -> Answer:
        return json_reply(self.cloud.faults.now().to_json())

    async def _set_faults(self, request: Request) -> Answer:
        try:
            self.cloud.faults = Faults.parse(_json_object(request.body))
        except (ValueError, TypeError) as error:
            return json_reply({"error": str(error)}, 422)
        return json_reply(self.cloud.faults.now().to_json())


def _json_object(body: bytes) -> Json:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
