"""What a launched process and whoever watches it share: a few bytes of memory that outlive a SIGKILL."""

import mmap
from pathlib import Path
from typing import Final

_SIZE: Final = 512
_READY, _SEAM, _COUNT = 0, 1, 2  # whole numbers of eight bytes each
_PLACE_AT: Final = 64


class Trap:
    """A file of 512 bytes in memory. The watcher sets the seam; the launched process counts, and dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            path.write_bytes(bytes(_SIZE))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _SIZE)

    def _get(self, index: int) -> int:
        return int.from_bytes(self._memory[index * 8 : index * 8 + 8], "little")

    def _set(self, index: int, value: int) -> None:
        self._memory[index * 8 : index * 8 + 8] = value.to_bytes(8, "little")

    @property
    def is_ready(self) -> bool:
        """Whether the process said that it serves."""
        return bool(self._get(_READY))

    def set_ready(self, value: bool) -> None:
        """Say that it serves, or (before a start) that it does not yet."""
        self._set(_READY, int(value))

    @property
    def seam(self) -> int:
        """The seam to die at, counted from 1; 0 while nothing is armed."""
        return self._get(_SEAM)

    @property
    def count(self) -> int:
        """How many seams were passed since it was armed."""
        return self._get(_COUNT)

    @count.setter
    def count(self, value: int) -> None:
        self._set(_COUNT, value)

    def arm(self, seam: int) -> None:
        """Count from 1 from now on, and die at this one."""
        self._set(_SEAM, 0)
        self._set(_COUNT, 0)
        self._memory[_PLACE_AT:] = bytes(_SIZE - _PLACE_AT)
        self._set(_SEAM, seam)

    def disarm(self) -> None:
        """Let it live."""
        self._set(_SEAM, 0)

    @property
    def place(self) -> str:
        """Where it died."""
        return bytes(self._memory[_PLACE_AT:]).rstrip(b"\0").decode()

    def write_place(self, place: str) -> None:
        """Say where it dies, just before."""
        text = place.encode()[: _SIZE - _PLACE_AT]
        self._memory[_PLACE_AT : _PLACE_AT + len(text)] = text

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()
