"""A form with one file, read as it comes: its fields first, then the file, part by part, and never all at once."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from orchestrator.web.console.faults import Refused

#: Fields before the file: a token and a few words.
_FIELDS_BYTES_MAX: Final = 8_192
_HEADER_BYTES_MAX: Final = 2_048
#: Until the file begins.
_BEGINS_WITHIN_S: Final = 10.0


class Upload:
    """What a browser sends when a person chose a file. Fields that come after the file are not looked at."""

    def __init__(self, request: Request) -> None:
        """Take the request, whose body nobody has read.

        Raises:
            Refused: it is no such form.
        """
        kind, options = parse_options_header(request.headers.get("content-type"))
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not boundary:
            raise _unreadable()
        self._stream = request.stream()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begins,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._data,
                "on_part_end": self._part_ends,
            },
        )
        self.fields: dict[str, str] = {}
        self.file_name: str | None = None
        self._collected: dict[str, bytearray] = {}
        self._size_bytes = 0
        self._headers: dict[bytes, bytes] = {}
        self._name, self._value = b"", b""
        self._field: str | None = None
        self._in_file = self._file_ended = False
        self._pieces: deque[bytes] = deque()

    async def begin(self) -> None:
        """Read the fields, up to where the file begins.

        Raises:
            Refused: there is no file, or what is before it is too much or too slow.
        """
        try:
            async with asyncio.timeout(_BEGINS_WITHIN_S):
                while self.file_name is None and await self._more():
                    pass
        except TimeoutError:
            raise Refused(408, "The form did not arrive in time", "Nothing was kept. Try again.") from None
        if not self.file_name:
            raise Refused(422, "No file was chosen", "Go back, and choose the report's file.")
        self.fields = {name: value.decode("utf-8", "replace") for name, value in self._collected.items()}

    async def parts(self) -> AsyncIterator[bytes]:
        """The file, as it comes.

        Raises:
            Refused: it ends before its end.
        """
        going = True
        while going:
            while self._pieces:
                yield self._pieces.popleft()
            going = not self._file_ended and await self._more()
        while self._pieces:
            yield self._pieces.popleft()
        if not self._file_ended:
            raise _unreadable()

    async def _more(self) -> bool:
        """Read on; false at the end."""
        async for chunk in self._stream:
            try:
                self._parser.write(chunk)
            except MultipartParseError:
                raise _unreadable() from None
            return True
        return False

    def _part_begins(self) -> None:
        self._headers, self._name, self._value, self._field = {}, b"", b"", None

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]
        self._measure(len(self._name), _HEADER_BYTES_MAX)

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._measure(len(self._value), _HEADER_BYTES_MAX)

    def _header_ends(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name, self._value = b"", b""

    def _headers_end(self) -> None:
        if self.file_name is not None:
            return
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if b"filename" in options:
            self.file_name = options[b"filename"].decode("utf-8", "replace")
            self._in_file = True
        else:
            self._field = options.get(b"name", b"").decode("utf-8", "replace")
            self._collected[self._field] = bytearray()

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._pieces.append(bytes(data[start:end]))
        elif self._field is not None:
            self._size_bytes += end - start
            self._measure(self._size_bytes, _FIELDS_BYTES_MAX)
            self._collected[self._field] += data[start:end]

    def _part_ends(self) -> None:
        self._file_ended = self._file_ended or self._in_file
        self._in_file = False

    @staticmethod
    def _measure(size_bytes: int, limit_bytes: int) -> None:
        if size_bytes > limit_bytes:
            raise Refused(413, "The form is larger than is taken", "Nothing was kept.")


def _unreadable() -> Refused:
    return Refused(
        400, "The form could not be read", "Nothing was kept. Load the page anew, and choose the file again."
    )
