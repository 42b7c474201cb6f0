"""Intake and receiver: insert and ``.delay()``; update and acknowledge. ``python -m bench.naive.app`` serves it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, FastAPI
from sqlmodel import SQLModel, select

from bench import plain
from bench.naive.tasks import send_payment
from bench.plain import Payment, SessionOfRequest, Submission, apply, known_caller, notified, the_platform


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    SQLModel.metadata.create_all(plain.engine)
    yield


app = FastAPI(lifespan=lifespan)
app.include_router(plain.reads)


@app.post("/v1/payments", status_code=201, dependencies=[Depends(known_caller)])
def create_payment(submission: Submission, session: SessionOfRequest) -> Payment:
    payment = submission.payment()
    session.add(payment)
    session.commit()
    session.refresh(payment)
    send_payment.delay(str(payment.id))
    return payment


@app.post("/notifications/terminal", dependencies=[Depends(the_platform)])
def receive(message: Annotated[dict[str, Any], Depends(notified)], session: SessionOfRequest) -> str:
    content = message.get("SaleToPOIResponse")
    if content is not None:
        head = content["MessageHeader"]
        wanted = select(Payment).where(Payment.poi_id == head["POIID"], Payment.service_id == head["ServiceID"])
        payment = session.exec(wanted).one()
        apply(payment, content["PaymentResponse"])
        session.add(payment)
        session.commit()
    return "[accepted]"


if __name__ == "__main__":
    uvicorn.run(app, port=plain.PORT, access_log=False, log_level="warning")
