"""Secrets by reference: ``env:NAME`` or ``file:/path``. The database and the logs know where a secret is, never what.

A variable is looked for where the settings are: in the environment, else in ``.env``.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from config.sources import SECRET_FILE_BYTES_MAX
from orchestrator.errors import ConfigurationError

REFERENCE_CHARS_MAX: Final = 255  # what the database keeps
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def checked_reference(reference: str) -> str:
    """The reference, as it is.

    Raises:
        ConfigurationError: it is none. The message does not repeat it: it may be the secret itself.
    """
    kind, _, rest = reference.partition(":")
    variable = kind == "env" and _VARIABLE.fullmatch(rest)
    file = kind == "file" and rest.startswith("/") and rest.isprintable()
    if not (variable or file) or len(reference) > REFERENCE_CHARS_MAX:
        raise ConfigurationError(
            f"a secret is named as env:NAME or as file:/whole/path, in at most {REFERENCE_CHARS_MAX} characters"
        )
    return reference


def resolve(reference: str, variables: Mapping[str, str | None]) -> str:
    """The secret that is meant, without the line break at a file's end.

    Raises:
        ConfigurationError: the reference is none, or there is no such secret; the message names the reference alone.
    """
    kind, _, rest = checked_reference(reference).partition(":")
    secret = variables.get(rest) if kind == "env" else _content(reference, Path(rest))
    if not secret:
        remedy = "set the variable for every worker" if kind == "env" else "write the secret into the file, alone"
        raise ConfigurationError(f"{reference} is empty or not there; {remedy}")
    try:
        secret.encode("utf-8")
    except UnicodeEncodeError:  # bytes of the environment that are no UTF-8
        raise ConfigurationError(f"{reference} must be UTF-8 text") from None
    return secret


def _content(reference: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(SECRET_FILE_BYTES_MAX + 1)
        text = content.decode("utf-8").rstrip("\r\n")
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ConfigurationError(f"{reference} cannot be read: {why}; every worker needs the file") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{reference} must be UTF-8 text") from None
    if len(content) > SECRET_FILE_BYTES_MAX:
        raise ConfigurationError(f"{reference} is larger than {SECRET_FILE_BYTES_MAX} bytes; it should hold one secret")
    return text
