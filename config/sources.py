"""Where settings come from: variables, a ``.env`` file, a folder of secrets files. Texts are gathered, not yet read."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dotenv import dotenv_values

PREFIX = "COUNTERFOIL_"
TEST_PREFIX = "COUNTERFOIL_TEST_"  # belongs to the test suite; never a mistake
ALIASES = {
    "ADYEN_API_KEY": "COUNTERFOIL_API_KEY",
    "ADYEN_MERCHANT_ACCOUNT": "COUNTERFOIL_MERCHANT_ACCOUNT",
    "ADYEN_HMAC_KEY": "COUNTERFOIL_HMAC_KEYS",
}
SECRETS_FOLDER = Path("/run/secrets")  # where Docker and Podman mount secrets
SECRET_FILE_BYTES_MAX = 64 * 1024  # a list of keys is far smaller; a larger file was named by mistake


def dotenv_variables(path: Path) -> dict[str, str | None]:
    """What a ``.env`` file says; none is fine. A ``$`` in a value is a dollar sign: nothing is substituted."""
    return dotenv_values(path, interpolate=False)


@dataclass(slots=True)
class Gathered:
    """What the sources say, first come first served, and what is wrong with how they say it."""

    fields: Mapping[str, str]  #: the field of each variable
    texts: dict[str, str] = field(default_factory=dict)  #: by field
    origins: dict[str, str] = field(default_factory=dict)  #: by field
    mistakes: list[str] = field(default_factory=list)

    def add(self, variables: Mapping[str, str | None], origin: str) -> None:
        """Take what is new and not empty; a setting's own name goes before its alias."""
        given = {name: text for name, text in variables.items() if text}
        for name, text in given.items():
            if name in self.fields:
                self._take(name, text, origin)
            elif name.upper().startswith(PREFIX) and not name.startswith(TEST_PREFIX):
                self.mistakes.append(self._unknown(name, origin))
        for alias, name in ALIASES.items():
            if alias in given:
                self._take(name, given[alias], f"{origin}, as {alias}")

    def add_dotenv(self, path: Path) -> None:
        """Take what a ``.env`` file says."""
        try:
            self.add(dotenv_variables(path), path.name)
        except (OSError, UnicodeDecodeError) as error:
            self.mistakes.append(f"{path}: cannot be read ({type(error).__name__}); make it readable UTF-8 text")

    def add_secrets(self, named: str | None, *, usual: bool) -> None:
        """Take the files of the folder that is named, or of the usual one, that are named for a setting."""
        folder = Path(named) if named else SECRETS_FOLDER
        if not named and not (usual and folder.is_dir()):
            return
        try:
            files = sorted(path for path in folder.expanduser().iterdir() if self._is_ours(path.name.upper()))
        except (OSError, RuntimeError) as error:
            why = f"cannot be read ({type(error).__name__}); name a folder that exists and can be read"
            self.mistakes.append(f"{PREFIX}SECRETS_DIR: {folder} {why}" if named else f"{folder}: {why}")
            return
        self.add({path.name.upper(): self._read(path) for path in files}, f"secrets folder {folder}")

    def _is_ours(self, name: str) -> bool:
        return name in ALIASES or name.startswith(PREFIX)

    def _read(self, path: Path) -> str | None:
        try:
            with path.open("rb") as file:
                content = file.read(SECRET_FILE_BYTES_MAX + 1)
            text = content.decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            self.mistakes.append(f"{path}: cannot be read ({type(error).__name__}); make it readable UTF-8 text")
            return None
        if len(content) > SECRET_FILE_BYTES_MAX:
            self.mistakes.append(
                f"{path}: is larger than {SECRET_FILE_BYTES_MAX} bytes; it should hold one value alone"
            )
        return text

    def _take(self, name: str, text: str, origin: str) -> None:
        if self.fields[name] not in self.texts:
            self.texts[self.fields[name]] = text
            self.origins[self.fields[name]] = origin

    def _unknown(self, name: str, origin: str) -> str:
        nearest = difflib.get_close_matches(name.upper(), self.fields, n=1)
        remedy = f"did you mean {nearest[0]}?" if nearest else "remove it; `config show` lists every setting"
        return f"{name} ({origin}): there is no such setting; {remedy}"


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """By the XDG Base Directory Specification, which says to ignore a relative path."""
    xdg = environ.get("XDG_DATA_HOME", "")
    home = Path(environ.get("HOME") or "~")
    return (Path(xdg) if Path(xdg).is_absolute() else home / ".local" / "share") / "counterfoil"
