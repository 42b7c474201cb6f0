"""What the cloud does with each message: takes payments, answers status checks, passes aborts on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

from orchestrator.simulator import messages, verdicts
from orchestrator.simulator.aftermath import AN_ORDINARY_REFUND, REFUNDS
from orchestrator.simulator.channel import Channel
from orchestrator.simulator.choice import Choice, played
from orchestrator.simulator.dialogues import Dialogues
from orchestrator.simulator.encoding import Json, as_object, to_form
from orchestrator.simulator.faults import HEALTHY, Faults
from orchestrator.simulator.flaws import flawed
from orchestrator.simulator.incoming import Message, NotUnderstoodError, parse_message
from orchestrator.simulator.ledger import Ledger
from orchestrator.simulator.options import Options
from orchestrator.simulator.payment import Asked, BadMessageError, Header, Payment, end
from orchestrator.simulator.reversal import ReversalAsked
from orchestrator.simulator.scenarios import Flaw, HttpAnswer, StatusAnswer
from orchestrator.simulator.sealing import CryptoError, unseal
from orchestrator.simulator.server import Answer, CutOff, HangUp, Reply, json_reply
from orchestrator.simulator.terminal import Terminal

_HTML = Reply(200, b"<html><body><h1>Service temporarily unavailable</h1></body></html>", "text/html")
_TRUNCATED_AT_BYTES = 73
# What Diagnosis says of a terminal, by what it is occupied with.
_GLOBAL_STATUS = {"": "OK", "busy": "Busy", "maintenance": "Maintenance", "no-host": "Unreachable"}
_USED_BEFORE = to_form({"message": verdicts.REPEATED_SERVICE_ID.message})
_BAD_JSON = "Bad JSON:1: a JSON object is wanted"


@dataclass(eq=False)
class Cloud:
    """The platform and its terminals."""

    options: Options
    ledger: Ledger
    dialogues: Dialogues
    choice: Choice
    terminals: dict[str, Terminal]
    faults: Faults = field(default=HEALTHY)
    addresses: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Host and port of each terminal that has a port of its own."""

    def terminal(self, poi_id: str) -> Terminal | None:
        """The terminal, whether or not it is connected at this moment; None for one that does not exist."""
        if poi_id not in self.terminals and self.options.any_terminal and poi_id:
            self.terminals[poi_id] = Terminal(poi_id)
        return self.terminals.get(poi_id)

    def connected(self, poi_id: str) -> Terminal | None:
        """The terminal, when a message can reach it."""
        faults, terminal = self.faults.now(), self.terminal(poi_id)
        if terminal is None or faults.terminals_down or poi_id in faults.unreachable:
            return None
        return terminal if asyncio.get_running_loop().time() >= terminal.offline_until else None

    async def receive(self, raw: bytes, channel: Channel) -> Answer:
        """Answer one terminal message."""
        faults = self.faults.now()
        try:
            message, channel = self._opened(raw, channel)
        except NotUnderstoodError as error:
            self.ledger.write("request", via=channel.via, category="", taken=False)
            await self.ledger.durable()
            if channel.local:
                return json_reply([_BAD_JSON], HTTPStatus.BAD_REQUEST)
            return json_reply(messages.reject(None, str(error), raw))
        except CryptoError:
            message = parse_message(raw)
            self._note(message, channel, taken=False, cause="crypto error")
            await self.ledger.durable()
            return json_reply(messages.crypto_error(message.header), HTTPStatus.UNAUTHORIZED)
        if channel.local not in ("", message.header.poi_id):
            return await self._mistaken(message, channel)
        if faults.hang_up or faults.http_status:
            self._note(message, channel, taken=False, **_readable_fields(message))
            await self.ledger.durable()
            return HangUp() if faults.hang_up else Reply(faults.http_status)
        handler = self._handlers().get(message.header.category, self._unsupported)
        answer = await handler(message, channel)
        await self.ledger.durable()
        if faults.delay_s:
            await asyncio.sleep(faults.delay_s)
        return answer

    def _opened(self, raw: bytes, channel: Channel) -> tuple[Message, Channel]:
        """The message in clear, and how to answer it; CryptoError also for a clear one where a key must be used."""
        message, opened = parse_message(raw), unseal(raw, self.options.nexo_keys)
        if opened.key is not None:
            return parse_message(opened.raw), replace(channel, key=opened.key, sealed=raw)
        if channel.local and self.options.nexo_keys:
            raise CryptoError
        return message, channel

    def _handlers(self) -> dict[str, Callable[[Message, Channel], Awaitable[Answer]]]:
        return {
            "Payment": self._payment,
            "Reversal": self._reversal,
            "TransactionStatus": self._status,
            "Abort": self._abort,
            "Diagnosis": self._diagnosis,
        }

    async def _mistaken(self, message: Message, channel: Channel) -> Answer:
        """A message for another terminal came to this one's port."""
        self._note(message, channel, taken=False, cause="another terminal's", came_to=channel.local)
        await self.ledger.durable()
        text = to_form({"message": "The message names another terminal"})
        return channel.from_terminal(messages.failure(message.header, "UnavailableDevice", text))

    def _note(self, message: Message, channel: Channel, *, taken: bool, **more: Any) -> None:
        head = message.header
        ids = {"poi_id": head.poi_id, "sale_id": head.sale_id, "service_id": head.service_id}
        self.ledger.write("request", via=channel.via, category=head.category, taken=taken, **(ids | more))

    # -- payments --

    async def _payment(self, message: Message, channel: Channel) -> Answer:
        try:
            asked = Asked.parse(message.header, message.body)
        except BadMessageError as error:
            self._note(message, channel, taken=False)
            return self._reply(
                message, channel, messages.failure(message.header, "MessageFormat", to_form({"errors": str(error)}))
            )
        terminal, name = self.connected(asked.poi_id), self.choice.scenario(asked)
        scenario = played(name)
        taken = terminal is not None and scenario.takes
        self._note(message, channel, taken=taken, scenario=name, **_request_fields(asked))
        if terminal is None:
            return self._unreachable(message, channel)
        if not scenario.takes:
            return self._http_answer(scenario.http_answer, message)
        if asked.header.key in terminal.seen or asked.header.key in terminal.reversals:
            return self._repeated(message, channel, terminal, asked)
        payment = Payment(asked, name, channel.via)
        if channel.is_held:
            payment.answer = asyncio.get_running_loop().create_future()
        self.dialogues.take(terminal, payment)
        if scenario.http_answer is not HttpAnswer.NORMAL:
            return self._http_answer(scenario.http_answer, message)
        if payment.answer is None:
            return channel.acknowledgement
        body = await payment.answer
        said = {"what": "nothing" if body is None else "PaymentResponse"}
        if scenario.flaw is not Flaw.NONE and channel.key is not None:
            said["flaw"] = scenario.flaw.name
        self.ledger.write("answer", via=channel.via, **payment.ledger_fields(), **said)
        if body is None:
            return HangUp()
        return flawed(scenario.flaw, channel, body, lambda service_id: self.dialogues.forgery(asked, service_id))

    def _repeated(self, message: Message, channel: Channel, terminal: Terminal, asked: Asked) -> Answer:
        """A ServiceID that was seen before: refused and counted, never charged again; the first one is untouched."""
        ending = end(asked, verdicts.REPEATED_SERVICE_ID, seed=self.options.seed, counter=terminal.number_tender())
        self._note_repeated(message.header, asked.reference)
        return self._reply(message, channel, messages.payment_response(asked, ending, self.options.merchant_account))

    def _note_repeated(self, head: Header, reference: str) -> None:
        ids = {"poi_id": head.poi_id, "sale_id": head.sale_id, "service_id": head.service_id}
        self.ledger.write("refused", **ids, reference=reference, cause="repeated")

    # -- referenced refunds --

    async def _reversal(self, message: Message, channel: Channel) -> Answer:
        head = message.header
        try:
            asked = ReversalAsked.parse(head, message.body)
        except BadMessageError as error:
            self._note(message, channel, taken=False)
            text = to_form({"errors": str(error)})
            return self._reply(message, channel, messages.failure(head, "MessageFormat", text))
        terminal, name = self.connected(asked.poi_id), self.choice.refund(asked.reference)
        scenario = REFUNDS[name] if name else AN_ORDINARY_REFUND
        taken = terminal is not None and scenario.takes
        self._note(message, channel, taken=taken, scenario=name, reference=asked.reference)
        if terminal is None:
            return self._unreachable(message, channel)
        if not scenario.takes:
            return HangUp()
        if head.key in terminal.seen or head.key in terminal.reversals:
            self._note_repeated(head, asked.reference)
            return self._reply(message, channel, messages.failure(head, "NotAllowed", _USED_BEFORE))
        terminal.reversals[head.key] = None
        body = self._reverse(terminal, asked, name, scenario.answer_after_s)
        if channel.is_held:
            answer = channel.from_terminal(await body)
            return answer if scenario.answers else HangUp()
        self.dialogues.spawn(self._push_reversal(message, body, answers=scenario.answers))
        return channel.acknowledgement if scenario.answers else HangUp()

    async def _reverse(self, terminal: Terminal, asked: ReversalAsked, scenario: str, after_s: float) -> Json:
        """Pass the reversal on, and return what the terminal answers; it is a dialogue of its own."""
        await self.dialogues.wait(after_s)
        busy = terminal.running is not None or bool(self.dialogues.state(terminal.poi_id))
        reversal = self.dialogues.books.answer_reversal(asked, scenario, busy=busy)
        terminal.reversals[asked.header.key] = reversal
        return messages.response(asked.header, messages.reversal_body(reversal))

    async def _push_reversal(self, message: Message, body: Awaitable[Json], *, answers: bool) -> None:
        answer, head = await body, message.header
        await self.ledger.durable()
        if answers:
            about = {"poi_id": head.poi_id, "sale_id": head.sale_id, "service_id": head.service_id}
            await self.dialogues.delivery.response(answer, what="ReversalResponse", **about)

    def _unreachable(self, message: Message, channel: Channel) -> Answer:
        if channel.local:
            return HangUp()
        if channel.is_device_api:
            return json_reply(messages.terminal_unreachable(message.header))
        return self._http_answer(HttpAnswer.REJECT_NOT_CONNECTED, message)

    @staticmethod
    def _http_answer(kind: HttpAnswer, message: Message) -> Answer:
        """An answer that is not the payment's."""
        rejection = messages.NOT_CONNECTED if kind is HttpAnswer.REJECT_NOT_CONNECTED else messages.NO_RESPONSE
        rejected = json_reply(messages.reject(message.header, rejection, message.raw))
        answers: dict[HttpAnswer, Answer] = {
            HttpAnswer.HANG_UP: HangUp(),
            HttpAnswer.INTERNAL_ERROR: Reply(HTTPStatus.INTERNAL_SERVER_ERROR),
            HttpAnswer.EMPTY: Reply(),
            HttpAnswer.HTML: _HTML,
            HttpAnswer.TRUNCATED: CutOff(rejected, _TRUNCATED_AT_BYTES),
            HttpAnswer.REJECT_NO_RESPONSE: rejected,
            HttpAnswer.REJECT_NOT_CONNECTED: rejected,
        }
        return answers[kind]

    def _reply(self, message: Message, channel: Channel, body: Json) -> Answer:
        """The body on the same connection, or pushed after the acknowledgement."""
        if channel.is_held:
            return channel.from_terminal(body)
        head = message.header
        about = {"poi_id": head.poi_id, "sale_id": head.sale_id, "service_id": head.service_id}
        self.dialogues.spawn(self.dialogues.delivery.response(body, what=f"{head.category}Response", **about))
        return channel.acknowledgement

    # -- everything else --

    async def _status(self, message: Message, channel: Channel) -> Answer:
        reference = as_object(message.body.get("MessageReference"))
        terminal = self.connected(message.header.poi_id)
        asked_about = {"about_sale_id": reference.get("SaleID", ""), "about_service_id": reference.get("ServiceID", "")}
        self._note(message, channel, taken=terminal is not None, **asked_about)
        if terminal is None:
            self._note_status(message, asked_about, "unreachable")
            return self._unreachable(message, channel)
        category = str(reference.get("MessageCategory", "Payment"))
        about = Header(terminal.poi_id, str(reference.get("SaleID", "")), str(reference.get("ServiceID", "")), category)
        if not reference and terminal.last is not None:
            about = terminal.last
        if category == "Reversal":
            said, body = self._reversal_status(message.header, terminal, about)
        else:
            with_receipts = message.body.get("ReceiptReprintFlag") is True
            payment = terminal.find(*about.key) if category == "Payment" else None
            said, body = self._status_answer(message.header, terminal, payment, category, with_receipts=with_receipts)
        self._note_status(message, {"about_sale_id": about.sale_id, "about_service_id": about.service_id}, said)
        if said == "unreachable":  # the gateway says so, which has no key; on a local network nobody does
            return HangUp() if channel.local else self._reply(message, replace(channel, key=None), body)
        return self._reply(message, channel, body)

    def _note_status(self, message: Message, about: Json, said: str) -> None:
        head = message.header
        self.ledger.write("status", poi_id=head.poi_id, service_id=head.service_id, **about, answer=said)

    @staticmethod
    def _reversal_status(head: Header, terminal: Terminal, about: Header) -> tuple[str, Json]:
        """The word for the ledger, and the body."""
        if about.key not in terminal.reversals:
            return "not_found", messages.not_found(head, about.category, terminal.last)
        reversal = terminal.reversals[about.key]
        if reversal is None:
            return "in_progress", messages.in_progress(head)
        body = messages.reversal_body(reversal)
        return f"repeated {body['Response']['Result']}", messages.repeated(head, about, body)

    def _status_answer(
        self, head: Header, terminal: Terminal, payment: Payment | None, category: str, *, with_receipts: bool
    ) -> tuple[str, Json]:
        """The word for the ledger, and the body."""
        planned = StatusAnswer.TRUTH
        if payment is not None:
            scenario = played(payment.scenario)
            firsts = scenario.first_checks
            planned = firsts[payment.status_checks] if payment.status_checks < len(firsts) else scenario.later_checks
            payment.status_checks += 1
            payment.changed.set()
        if planned is StatusAnswer.UNREACHABLE:
            return "unreachable", messages.terminal_unreachable(head)
        if payment is None or not payment.known or planned is StatusAnswer.NOT_FOUND:
            return "not_found", messages.not_found(head, category, terminal.last)
        if payment.ending is None or planned is StatusAnswer.IN_PROGRESS:
            return "in_progress", messages.in_progress(head)
        inner = messages.payment_body(payment.asked, payment.ending, self.options.merchant_account)
        if not with_receipts:
            inner.pop("PaymentReceipt", None)
        return f"repeated {payment.ending.result}", messages.repeated(head, payment.asked.header, inner)

    async def _abort(self, message: Message, channel: Channel) -> Answer:
        reference = as_object(message.body.get("MessageReference"))
        key = (str(reference.get("SaleID", "")), str(reference.get("ServiceID", "")))
        terminal = self.connected(message.header.poi_id)
        self._note(message, channel, taken=terminal is not None, about_sale_id=key[0], about_service_id=key[1])
        if terminal is None:
            return self._unreachable(message, channel)
        running = terminal.running
        heard = running is not None and running.asked.header.key == key
        if running is not None and heard:
            running.abort_asked = True
            running.changed.set()
        about = {"poi_id": terminal.poi_id, "sale_id": key[0], "service_id": key[1]}
        self.ledger.write("abort", **about, effect="aborts" if heard else "ignored")
        ended = terminal.find(*key)
        if self.options.display and ended is not None and ended.ending is not None:
            self.dialogues.spawn(self.dialogues.report(terminal.poi_id, "Completed"))
        return channel.acknowledgement

    async def _diagnosis(self, message: Message, channel: Channel) -> Answer:
        terminal = self.connected(message.header.poi_id)
        self._note(message, channel, taken=terminal is not None)
        if terminal is None:
            return self._unreachable(message, channel)
        state = self.faults.now().states.get(terminal.poi_id, "")
        status = _GLOBAL_STATUS[state or ("busy" if terminal.running else "")]
        return self._reply(message, channel, messages.diagnosis(message.header, status))

    async def _unsupported(self, message: Message, channel: Channel) -> Answer:
        self._note(message, channel, taken=False)
        text = to_form({"message": f"{message.header.category} is not offered"})
        return self._reply(message, channel, messages.failure(message.header, "UnavailableService", text))


def _readable_fields(message: Message) -> Json:
    """The fields of a payment request that is not taken; none for other messages and unreadable ones."""
    try:
        return _request_fields(Asked.parse(message.header, message.body))
    except BadMessageError:
        return {}


def _request_fields(asked: Asked) -> Json:
    """What a request line holds beyond the identifiers; enough to rebuild `Asked`."""
    return {
        "reference": asked.reference,
        "amount_minor": asked.amount_minor,
        "currency": asked.currency,
        "sale_timestamp": asked.sale_timestamp,
        "payment_type": asked.payment_type,
        "acquirer_data": asked.acquirer_data,
        "tip_minor": asked.tip_minor,
        "cashback_minor": asked.cashback_minor,
        "token_requested": asked.token_requested,
    }
