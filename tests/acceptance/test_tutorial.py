"""The tutorial is the test: each command of the page is run, in order, and prints what the page says."""

import os
import pty
import re
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: The addresses that the page names; others are in use here.
API, FLOWER = "127.0.0.1:8080", "127.0.0.1:5555"
#: Five processes start on whatever else this machine does; no command waits for longer than an answer window.
READY_WITHIN_S = 120.0
SAID_WITHIN_S = 60.0
#: The page closes the day on which it began, in the zone of the platform's reports; it takes less than this.
DAY_LASTS = timedelta(minutes=5)
REPORTS_ZONE = timezone(timedelta(hours=1))
#: Wide enough for the page's tables; what is wrapped in a narrower one is wrapped in its last column.
ROWS, COLUMNS = 40, 160
#: What a command prints changes while the product goes on: these are asked again until they say it.
READS = ("counterfoil show", "counterfoil list", "counterfoil refunds list")

#: What is another in each run, and what stands for it on both sides.
VARIES = (
    (re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b"), "ID"),
    (re.compile(r"\b\d\d:\d\d:\d\d(?:\.\d+)?\b"), "TIME"),
    (re.compile(r"\b(?:correct-horse-battery-staple|[\w-]{16,}(?= This is the only time))"), "PASSWORD"),
)


class Step(NamedTuple):
    """A command of the page, and what the page says that it prints."""

    command: str
    printed: str


def steps() -> list[Step]:
    parts = [part for fence in FENCE.findall(PAGE) for part in re.split(r"^\$ ", fence, flags=re.MULTILINE)[1:]]
    return [Step(command, printed) for command, _, printed in (part.partition("\n") for part in parts)]


def seen(text: str) -> str:
    """What stands on the screen in the end: lines that were written over are gone, and so are control codes."""
    text = re.sub(r"\x1b\[(?:\?25[hl]|[0-9;]*m)", "", text)
    text = re.sub(r"[^\n]*\r?\n\r?\x1b\[1A\x1b\[2K", "", text)
    return re.sub(r"[^\n]*\r\x1b\[2K", "", text)


def plain(text: str) -> str:
    """Without what varies, and each run of white space as one space."""
    words = " ".join(seen(text).split())
    for pattern, instead in VARIES:
        words = pattern.sub(instead, words)
    return words


def says(printed: str, page: str) -> bool:
    """Whether the output is the page's, whole, where `…` stands for anything."""
    pattern = ".*?".join(re.escape(part.strip()).replace(r"\ ", r"\s?") for part in plain(page).split("…"))
    return re.fullmatch(pattern.replace(".*?", r"\s?.*?\s?"), plain(printed)) is not None


class Window:
    """A terminal window in one folder: what is typed there is run by a shell, and what it prints is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.api, self._flower = free_address(), free_address()
        bin_folder = folder.parent / "bin"
        bin_folder.mkdir()
        shim = bin_folder / "counterfoil"
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m orchestrator.cli "$@"\n')
        shim.chmod(0o755)
        self.environment = {
            "PATH": f"{bin_folder}:/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder.parent),
            "TERM": "xterm",
            "NO_COLOR": "1",
            "LANG": "C.UTF-8",
            "COUNTERFOIL_LISTEN": self.api,
            "COUNTERFOIL_FLOWER_LISTEN": self._flower,
        }
        self.status = 0

    def typed(self, text: str) -> str:
        """As it is here."""
        return text.replace(API, self.api).replace(FLOWER, self._flower)

    def start(self, command: str) -> "Running":
        return Running(command, self.folder, self.environment)

    def run(self, command: str) -> str:
        """What a command prints. A shell keeps its last status and its variables, and so do we."""
        if assigned := re.fullmatch(r"([A-Z]+)=(.*)", command):
            self.environment[assigned[1]] = self.run(f"printf %s {assigned[2]}")
            return ""
        running = self.start(command.replace("$?", str(self.status)))
        self.status = running.process.wait(SAID_WITHIN_S)
        return running.said_at_the_end()


class Running:
    """A command under a terminal of its own."""

    def __init__(self, command: str, folder: Path, environment: dict[str, str]) -> None:
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (ROWS, COLUMNS))
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", f"exec {command}" if command.startswith("counterfoil up") else command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self._chunks: list[bytes] = []
        self._reader = threading.Thread(target=self._read, args=(ours,), daemon=True)
        self._reader.start()

    def _read(self, terminal: int) -> None:
        with suppress(OSError):  # how a terminal says that nobody writes to it any more
            while chunk := os.read(terminal, 65_536):
                self._chunks.append(chunk)
        os.close(terminal)

    def said(self) -> str:
        return b"".join(self._chunks).decode()

    def said_at_the_end(self) -> str:
        self._reader.join(SAID_WITHIN_S)
        return self.said()


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


def until_it_says(step: Step, window: Window, within_s: float = SAID_WITHIN_S) -> str:
    """Run a command; one that only reads is run again until it says what the page says."""
    end = time.monotonic() + within_s
    while True:
        printed = window.run(window.typed(step.command))
        if says(printed, window.typed(step.printed)) or time.monotonic() > end or not step.command.startswith(READS):
            return printed


def wait_for_a_day_that_lasts() -> None:
    """Begin no run across the midnight of the reports: its payments would be of two days."""
    while (now := datetime.now(REPORTS_ZONE)).date() != (now + DAY_LASTS).date():
        time.sleep(1)


@pytest.fixture
def first_window(tmp_path_factory: pytest.TempPathFactory) -> Window:
    folder = tmp_path_factory.mktemp("tut") / "tutorial"
    folder.mkdir()
    return Window(folder)


def test_the_tutorial_prints_what_it_says(first_window: Window) -> None:
    """Every command in its order; the product is stopped at the end as the page says."""
    wait_for_a_day_that_lasts()
    window, password = first_window, ""
    up: Running | None = None
    try:
        for step in steps():
            if step.command == "counterfoil up":
                up = window.start(step.command)
                end = time.monotonic() + READY_WITHIN_S
                while not says(up.said(), window.typed(step.printed)):
                    assert time.monotonic() < end, up.said()
                    assert up.process.poll() is None, up.said()
                    time.sleep(0.1)
                continue
            printed = until_it_says(step, window)
            assert says(printed, window.typed(step.printed)), f"$ {step.command}\n{printed}\nThe page:\n{step.printed}"
            if "users add" in step.command:
                password = printed.split()[0]
        assert password
        assert up is not None
        console_finds(window.api, "ann", password, "order-3-unreachable-webhook-missing")
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(SAID_WITHIN_S) == 0
    finally:
        if up is not None and up.process.poll() is None:
            up.process.terminate()
            up.process.wait(SAID_WITHIN_S)


def console_finds(api: str, name: str, password: str, payment: str) -> None:
    """Who was let in logs in, and finds the payment by each search that the page names."""
    searches = re.search(r"search for `([^`]+)` or for `([^`]+)`", PAGE)
    assert searches
    with httpx.Client(base_url=f"http://{api}", follow_redirects=True) as browser:
        assert 'name="password"' in browser.get("/console").text
        form = {"name": name, "password": password, "next": "/console"}
        assert browser.post("/console/login", data=form, headers={"Origin": f"http://{api}"}).status_code == 200
        for typed in searches.groups():
            found = browser.get("/console", params={"q": typed})
            assert found.status_code == 200
            assert payment in found.text, typed


def test_a_page_that_says_something_else_is_noticed() -> None:
    """The comparison can fail: another word, a word too many, a word too few."""
    assert says("Charged  10.50 EUR.\r\n", "Charged 10.50 EUR.")
    assert says("a 12:00:01 b\nc d\n", "a 12:34:56\n…\nd")
    for printed in ("Charged 10.51 EUR.", "Charged 10.50 EUR. And more.", "Charged", ""):
        assert not says(printed, "Charged 10.50 EUR.")


def test_the_tutorial_has_the_steps_that_it_promises() -> None:
    commands = " ".join(step.command for step in steps())

    for promised in ("up", "pay", "show", "journal verify", "users add", "refund", "reconcile run"):
        assert f"counterfoil {promised}" in commands
