"""What there is to try: which process dies, in which story, at which seam."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Mode(StrEnum):
    """What a seam is."""

    LINES = "lines"
    SYSCALLS = "syscalls"


class Victim(StrEnum):
    """Who dies. Each is a process of its own here, so that a seam belongs to one of them."""

    API = "api"
    WORKER = "worker"
    SWEEP = "sweep"
    RECEIVER = "receiver"


@dataclass(frozen=True, slots=True)
class Story:
    """A payment's life. ``scenario`` is what the simulator plays; ``victims`` are those who have a part in it."""

    name: str
    scenario: str
    victims: tuple[Victim, ...]
    send_by_s: int = 60
    aborts: bool = False
    worker_sleeps: bool = False  # stopped by SIGSTOP until the shopper has left: the send expires


STORIES: Final = (
    Story("approved", "approve", (Victim.API, Victim.WORKER, Victim.RECEIVER)),
    Story("answer lost, asked for", "silent", (Victim.WORKER, Victim.SWEEP)),
    Story("hung up on, then pushed", "hangup-after", (Victim.WORKER, Victim.RECEIVER)),
    Story("hung up on, never taken", "hangup-before", (Victim.WORKER,)),
    Story("pushed three times", "duplicate-notify", (Victim.RECEIVER,)),
    Story("aborted", "abortable", (Victim.API, Victim.WORKER), aborts=True),
    Story("never sent", "approve", (Victim.SWEEP,), send_by_s=8, worker_sleeps=True),
)


@dataclass(frozen=True, slots=True)
class Part:
    """One victim in one story, in one mode: its seams are counted together."""

    mode: Mode
    victim: Victim
    story: Story

    def __str__(self) -> str:
        return f"{self.mode} · {self.victim} · {self.story.name}"


def parts(modes: tuple[Mode, ...], victims: tuple[Victim, ...]) -> list[Part]:
    """Every part of these modes and victims."""
    return [
        Part(mode, victim, story)
        for mode in modes
        for victim in victims
        for story in STORIES
        if victim in story.victims
    ]


@dataclass(frozen=True, slots=True)
class Try:
    """One seam of a part, counted from 1; 0 counts them and kills nobody."""

    part: Part
    seam: int


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a try."""

    tried: Try
    killed: bool
    seams: int  # passed until the kill, or until the end
    place: str
    seconds: float  # from the submission to the end of the payment
    violations: tuple[str, ...]
