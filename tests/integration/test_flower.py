"""The real Flower beside a real worker: it finds payments by their reference, lets nobody in and nothing be touched."""

import base64
import json
import secrets
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import redis
from playwright.sync_api import sync_playwright

from orchestrator.web.console.payment_view import flower_address
from tests.integration.cli_support import Desk, desk_on, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(300)]

USER, PASSWORD = "ops", secrets.token_hex(8)
#: Flower waits twice as long after each failure to reach its broker, and workers wait up to 32 s.
BACK_WITHIN_S = 90


class Broker:
    """A Redis of our own that may be killed and started again, in the same place."""

    def __init__(self, program: str, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.port = int(taken.getsockname()[1])
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._command = [program, "--port", str(self.port), "--save", "", "--dir", str(folder)]
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        with redis.Redis(port=self.port) as client:
            wait_for(lambda: answers(client))

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def answers(client: "redis.Redis") -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


class Monitored:
    """A desk with a worker, a beat and Flower."""

    def __init__(self, desk: Desk, broker: Broker, address: str) -> None:
        self.desk, self.broker, self.address = desk, broker, address

    def ask(
        self, path: str, *, login: str = f"{USER}:{PASSWORD}", post: bool = False, address: str = ""
    ) -> tuple[int, Any]:
        """Status and body of a request to Flower."""
        headers = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"} if login else {}
        request = urllib.request.Request(
            f"http://{address or self.address}{path}", b"" if post else None, headers, method="POST" if post else "GET"
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310  -- our own URL
                return answer.status, answer.read()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read()
        except OSError:
            return 0, b""

    def tasks_about(self, reference: str) -> list[dict[str, Any]]:
        """What Flower's search finds."""
        status, body = self.ask(f"/api/tasks?search={urllib.parse.quote(reference)}")
        return list(json.loads(body).values()) if status == 200 else []

    def pay(self) -> str:
        """Take a payment; its reference."""
        reference = f"sale-{secrets.token_hex(6)}"
        paid = self.desk.pay(self.desk.terminal(), reference)
        assert paid.returncode == 0, paid.stdout + paid.stderr
        return reference


@pytest.fixture(scope="module")
def monitored(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitored]:
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        pytest.skip("no redis-server to start and kill; install one")
    folder = tmp_path_factory.mktemp("flower")
    broker = Broker(program, folder)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    try:
        with desk_on(postgres_url, broker.url, folder) as desk:
            login = {"COUNTERFOIL_FLOWER_USER": USER, "COUNTERFOIL_FLOWER_PASSWORD": PASSWORD}
            # The processes take their environment once, when they are started: this is the same mapping.
            desk.processes._environment |= login | {"COUNTERFOIL_FLOWER_LISTEN": address}
            for name in ("worker", "beat", "flower"):
                desk.processes.start(name, name)
            opened = Monitored(desk, broker, address)
            # The sweep runs once a second: as soon as Flower listens, it has seen one.
            wait_for(lambda: json.loads(opened.ask("/api/tasks?limit=1")[1] or b"{}"), BACK_WITHIN_S)
            yield opened
    finally:
        broker.kill()


@pytest.fixture(scope="module")
def paid(monitored: Monitored) -> dict[str, str]:
    """Two payments that Flower has seen: ids by reference."""
    references = [monitored.pay(), monitored.pay()]
    wait_for(lambda: all(monitored.tasks_about(reference) for reference in references))
    return {row["reference"]: row["id"] for row in monitored.desk.json("list")}


def test_a_payment_is_found_by_its_reference(monitored: Monitored, paid: dict[str, str]) -> None:
    for reference, payment in paid.items():
        [task] = monitored.tasks_about(reference)
        assert task["name"] == "tasks.payments.send"
        assert f"reference={reference}" in task["kwargs"]
        assert f"payment_id={payment}" in task["kwargs"]


def test_the_consoles_link_shows_the_tasks_of_that_payment_alone(monitored: Monitored, paid: dict[str, str]) -> None:
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(http_credentials={"username": USER, "password": PASSWORD})
        page = context.new_page()
        for reference, payment in paid.items():
            page.goto(flower_address(f"http://{monitored.address}/", UUID(payment)))
            page.wait_for_function("document.querySelector('#tasks-table tbody')?.innerText.includes('payment_id=')")
            rows = page.locator("#tasks-table tbody tr").all_inner_texts()
            assert rows
            assert all(f"payment_id={payment}" in row and f"reference={reference}" in row for row in rows)
        browser.close()


@pytest.mark.parametrize("path", ["/metrics", "/healthcheck"])
def test_what_machines_ask_is_open_and_says_nothing_of_payments(
    monitored: Monitored, paid: dict[str, str], path: str
) -> None:
    status, body = monitored.ask(path, login="")
    assert status == 200
    assert not [name for name in (*paid, *paid.values(), "payment_id") if name.encode() in body]


def test_a_path_in_its_url_is_the_one_that_flower_serves_under(monitored: Monitored) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    processes = monitored.desk.processes
    more = {"COUNTERFOIL_FLOWER_LISTEN": address, "COUNTERFOIL_FLOWER_URL": "https://ops.example/tools/flower/"}
    before = dict(processes._environment)
    processes._environment |= more
    try:
        processes.start("prefixed", "flower")
        wait_for(lambda: monitored.ask("/tools/flower/healthcheck", address=address)[0] == 200, BACK_WITHIN_S)
        assert b"/tools/flower/static/" in monitored.ask("/tools/flower/tasks", address=address)[1]
        assert monitored.ask("/tasks", address=address)[0] == 404
    finally:
        processes._environment = before
        processes.stop("prefixed")


@pytest.mark.parametrize(
    "login", ["", f"{USER}:wrong", f"{USER}:", f"other:{PASSWORD}"], ids=["none", "wrong", "empty", "another's"]
)
@pytest.mark.parametrize("path", ["/", "/api/tasks", "/api/workers", "/tasks"])
def test_nobody_looks_without_the_login(monitored: Monitored, login: str, path: str) -> None:
    assert monitored.ask(path, login=login)[0] == 401


@pytest.mark.parametrize(
    "path",
    [
        "/api/worker/shutdown/counterfoil@host",
        "/api/worker/queue/cancel-consumer/counterfoil@host?queue=payments",
        "/api/task/revoke/00000000-0000-0000-0000-000000000000",
        "/api/task/send-task/tasks.timers.sweep",
        "/api/task/apply/tasks.timers.sweep",
        "/api/task/async-apply/tasks.timers.sweep",
    ],
)
def test_nothing_can_be_touched_even_with_the_login(monitored: Monitored, path: str) -> None:
    assert monitored.ask(path, post=True)[0] == 403


def test_the_password_is_on_no_command_line(monitored: Monitored) -> None:
    pid = monitored.desk.processes.running["flower"].pid
    assert PASSWORD.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_flower_shows_tasks_again_after_its_broker_was_killed_and_came_back(monitored: Monitored) -> None:
    monitored.broker.kill()
    monitored.broker.start()
    wait_for(lambda: monitored.tasks_about(monitored.pay()), BACK_WITHIN_S)
    assert monitored.desk.processes.running["flower"].poll() is None
