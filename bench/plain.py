"""What both baselines share: one table in SQLModel, the message to the terminal, the reading of a result, reads.

Their processes are told by the environment where everything is; ``bench.contenders`` sets it.
"""

import json
import os
import secrets
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import httpx
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.security import APIKeyHeader, HTTPBasic, HTTPBasicCredentials
from pydantic import BaseModel
from sqlalchemy import UniqueConstraint
from sqlmodel import Field, Session, SQLModel, create_engine

DATABASE_URL = os.environ["BENCH_DATABASE_URL"]
BROKER_URL = os.environ["BENCH_BROKER_URL"]
CLOUD_URL = os.environ["BENCH_CLOUD_URL"]
API_KEY = os.environ["BENCH_API_KEY"]
NOTIFICATION_USERNAME = os.environ["BENCH_NOTIFICATION_USERNAME"]
NOTIFICATION_PASSWORD = os.environ["BENCH_NOTIFICATION_PASSWORD"]
PORT = int(os.environ["BENCH_PORT"])
CONCURRENCY = int(os.environ["BENCH_CONCURRENCY"])
ANSWER_WINDOW_S = float(os.environ["BENCH_ANSWER_WINDOW_S"])
CONNECTIONS = 40  # as many as the threads of an API that FastAPI gives to plain functions


class Payment(SQLModel, table=True):
    __tablename__ = "payments"
    __table_args__ = (UniqueConstraint("poi_id", "service_id"),)

    id: UUID = Field(default_factory=uuid.uuid4, primary_key=True)
    reference: str = Field(index=True)
    poi_id: str
    service_id: str = Field(default_factory=lambda: secrets.token_hex(5))
    currency: str
    amount_minor: int
    state: str = Field(default="pending", index=True)
    outcome: str | None = None
    psp_reference: str | None = None
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    sent_at: datetime | None = None
    concluded_at: datetime | None = None


class Amount(BaseModel):
    currency: str
    value: int


class Submission(BaseModel):
    reference: str
    poi_id: str
    amount: Amount

    def payment(self) -> Payment:
        return Payment(
            reference=self.reference,
            poi_id=self.poi_id,
            currency=self.amount.currency,
            amount_minor=self.amount.value,
        )


engine = create_engine(DATABASE_URL, pool_size=CONNECTIONS, max_overflow=10)
client = httpx.Client(
    headers={"X-API-Key": API_KEY, "Content-Type": "application/json"},
    timeout=httpx.Timeout(30, connect=5),
    limits=httpx.Limits(max_connections=100, max_keepalive_connections=100),
    trust_env=False,
)


def session() -> Iterator[Session]:
    with Session(engine) as opened:
        yield opened


SessionOfRequest = Annotated[Session, Depends(session)]


def known_caller(key: Annotated[str, Depends(APIKeyHeader(name="Authorization"))]) -> None:
    if not secrets.compare_digest(key, f"Bearer {API_KEY}"):
        raise HTTPException(status_code=401)


def the_platform(given: Annotated[HTTPBasicCredentials, Depends(HTTPBasic())]) -> None:
    right_name = secrets.compare_digest(given.username, NOTIFICATION_USERNAME)
    right_password = secrets.compare_digest(given.password, NOTIFICATION_PASSWORD)
    if not (right_name and right_password):
        raise HTTPException(status_code=401)


async def notified(request: Request) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(await request.body())
    return message


reads = APIRouter()


@reads.get("/v1/payments/{payment_id}", dependencies=[Depends(known_caller)])
def read_payment(payment_id: UUID, session: SessionOfRequest) -> Payment:
    payment = session.get(Payment, payment_id)
    if payment is None:
        raise HTTPException(status_code=404)
    return payment


@reads.get("/readyz")
def ready() -> dict[str, str]:
    return {"status": "ok"}


# -- the Terminal API --------------------------------------------------------------------------------------------------


def header(payment: Payment, category: str, service_id: str) -> dict[str, str]:
    return {
        "ProtocolVersion": "3.0",
        "MessageClass": "Service",
        "MessageCategory": category,
        "MessageType": "Request",
        "SaleID": "bench",
        "ServiceID": service_id,
        "POIID": payment.poi_id,
    }


def payment_request(payment: Payment) -> dict[str, Any]:
    sale = {"TransactionID": payment.reference, "TimeStamp": datetime.now(UTC).isoformat(timespec="seconds")}
    amounts = {"Currency": payment.currency, "RequestedAmount": payment.amount_minor / 100}
    body = {
        "SaleData": {"SaleTransactionID": sale, "SaleToAcquirerData": f"metadata.payment_id={payment.id}"},
        "PaymentTransaction": {"AmountsReq": amounts},
    }
    head = header(payment, "Payment", payment.service_id)
    return {"SaleToPOIRequest": {"MessageHeader": head, "PaymentRequest": body}}


def status_request(payment: Payment) -> dict[str, Any]:
    about = {"MessageCategory": "Payment", "SaleID": "bench", "ServiceID": payment.service_id}
    head = header(payment, "TransactionStatus", secrets.token_hex(5))
    return {"SaleToPOIRequest": {"MessageHeader": head, "TransactionStatusRequest": {"MessageReference": about}}}


def send(payment: Payment) -> None:
    """POST the payment request."""
    client.post(f"{CLOUD_URL}/async", json=payment_request(payment)).raise_for_status()


def ask_status(payment: Payment) -> dict[str, Any] | None:
    """The PaymentResponse that the terminal remembers, None when it has none."""
    answer = client.post(f"{CLOUD_URL}/sync", json=status_request(payment)).raise_for_status().json()
    status = answer["SaleToPOIResponse"]["TransactionStatusResponse"]
    if status["Response"]["Result"] != "Success":
        return None
    found: dict[str, Any] = status["RepeatedMessageResponse"]["RepeatedResponseMessageBody"]["PaymentResponse"]
    return found


def apply(payment: Payment, response: dict[str, Any]) -> None:
    """Write the terminal's result into the row."""
    payment.state = "confirmed"
    payment.outcome = "approved" if response["Response"]["Result"] == "Success" else "declined"
    poi = response.get("POIData", {}).get("POITransactionID", {}).get("TransactionID", "")
    payment.psp_reference = poi.partition(".")[2] or None
    payment.concluded_at = datetime.now(UTC)
