"""Intake and receiver: insert and enqueue; send the result to the workflow. ``python -m bench.durable.app``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import uvicorn
from dbos import DBOS, SetWorkflowID
from fastapi import Depends, FastAPI
from sqlmodel import SQLModel, select

from bench import plain
from bench.durable import workflow
from bench.plain import Payment, SessionOfRequest, Submission, known_caller, notified, the_platform


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    SQLModel.metadata.create_all(plain.engine)
    DBOS(config={**workflow.CONFIG, "executor_id": "api"})
    DBOS.listen_queues([])  # the worker runs them
    DBOS.launch()
    yield
    DBOS.destroy()


app = FastAPI(lifespan=lifespan)
app.include_router(plain.reads)


@app.post("/v1/payments", status_code=201, dependencies=[Depends(known_caller)])
def create_payment(submission: Submission, session: SessionOfRequest) -> Payment:
    payment = submission.payment()
    session.add(payment)
    session.commit()
    session.refresh(payment)
    with SetWorkflowID(str(payment.id)):
        DBOS.enqueue_workflow(workflow.QUEUE, workflow.pay, str(payment.id))
    return payment


@app.post("/notifications/terminal", dependencies=[Depends(the_platform)])
def receive(message: Annotated[dict[str, Any], Depends(notified)], session: SessionOfRequest) -> str:
    content = message.get("SaleToPOIResponse")
    if content is not None:
        head = content["MessageHeader"]
        wanted = select(Payment.id).where(Payment.poi_id == head["POIID"], Payment.service_id == head["ServiceID"])
        DBOS.send(str(session.exec(wanted).one()), content["PaymentResponse"], workflow.TOPIC)
    return "[accepted]"


if __name__ == "__main__":
    uvicorn.run(app, port=plain.PORT, access_log=False, log_level="warning")
