"""Answers: JSON as bytes, by an encoder that is made once."""

import json
from typing import Any, Final

from starlette.responses import Response

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class Json(Response):
    """A JSON answer in UTF-8; FastAPI takes it as its response class."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Spell the content."""
        return json_bytes(content)


def json_bytes(value: Any) -> bytes:
    """Spell a value as compact JSON."""
    return _ENCODER.encode(value).encode("utf-8", "replace")
