"""What goes wrong with the embedded servers: one sentence that names the remedy, and the end of the server's log."""

from pathlib import Path

LOG_TAIL_BYTES = 2_000
"""Enough for the last dozen lines of a server that refuses to start; our choice."""


class EmbeddedError(RuntimeError):
    """The embedded servers cannot be brought up, or not stopped cleanly."""


def failed(sentence: str, log: Path) -> EmbeddedError:
    """The error for `sentence`, followed by the end of the server's log, which holds no statements and no payloads."""
    try:
        tail = log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip()
    except OSError:
        tail = ""
    return EmbeddedError(f"{sentence}\nThe end of {log}:\n{tail}" if tail else sentence)
