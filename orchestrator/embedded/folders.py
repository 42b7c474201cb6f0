"""The folders and locks of the embedded servers. Only folders that we make are ever given a mode or an owner.

data_dir/owner.lock, postgres.lock, valkey.lock   held by the owner, and by the servers themselves
data_dir/postgres, valkey, logs                   the cluster, the append-only file, the servers' logs
data_dir/run                                      the sockets, unless data_dir/run-folder names a shorter path
"""

import fcntl
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

from orchestrator.embedded.errors import EmbeddedError
from orchestrator.embedded.privileges import Identity

SOCKET_PATH_LIMIT_BYTES = 103
"""macOS has room for 104 bytes with the closing zero (sys/un.h), Linux for 108 (unix(7))."""
LONGEST_SOCKET_NAME = ".s.PGSQL.5432.lock"
POLL_S = 0.01
PRIVATE = 0o700


def make_data_folder(data_dir: Path) -> Path:
    """The data folder's real path, made if missing: for us alone, or for root enterable by the servers' account."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o711 if os.geteuid() == 0 else PRIVATE)
        return data_dir.resolve(strict=True)
    except OSError as error:
        message = f"the data folder {data_dir} cannot be made: {error.strerror}; set COUNTERFOIL_DATA_DIR to another"
        raise EmbeddedError(message) from None


def make_private(folder: Path, identity: Identity) -> Path:
    """`folder`, made for `identity` alone if it is missing, refused if it exists and belongs to anybody else."""
    try:
        folder.mkdir(mode=PRIVATE)
        identity.own(folder)
    except FileExistsError:
        if not is_private(folder, identity.uid):
            message = f"{folder} must be a folder of user id {identity.uid} with mode 0700: correct or remove it."
            raise EmbeddedError(message) from None
    return folder


def is_private(folder: Path, uid: int) -> bool:
    """Whether `folder` is a real folder of this user that nobody else may enter."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == uid and found.st_mode & 0o077 == 0


def socket_folder(data_dir: Path) -> Path | None:
    """Where the sockets of this data folder are, if they have a place already."""
    elsewhere = data_dir / "run-folder"
    try:
        return Path(elsewhere.read_text().strip())
    except OSError:
        return data_dir / "run" if (data_dir / "run").is_dir() else None


def make_socket_folder(data_dir: Path, identity: Identity) -> Path:
    """A private folder for the sockets, with a path that fits into a socket's address."""
    near = data_dir / "run"
    if len(os.fsencode(near / LONGEST_SOCKET_NAME)) <= SOCKET_PATH_LIMIT_BYTES:
        return make_private(near, identity)
    remembered = socket_folder(data_dir)
    if remembered is not None and is_private(remembered, identity.uid):
        return remembered
    folder = Path(tempfile.mkdtemp(prefix="counterfoil-"))
    if len(os.fsencode(folder / LONGEST_SOCKET_NAME)) > SOCKET_PATH_LIMIT_BYTES:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="counterfoil-", dir="/tmp"))
    identity.own(folder)
    (data_dir / "run-folder").write_text(f"{folder}\n")
    return folder


def forget_socket_folder(data_dir: Path) -> None:
    """Leave nothing in the temporary folder after a clean stop."""
    elsewhere = data_dir / "run-folder"
    if elsewhere.exists():
        shutil.rmtree(elsewhere.read_text().strip(), ignore_errors=True)
        elsewhere.unlink()


def lock(path: Path, *, limit_s: float = 0) -> int | None:
    """A descriptor that holds the lock of `path`, waiting for at most `limit_s`; None when another holds it.

    The lock lasts until the last process that inherited the descriptor has ended, however it ends.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    until = time.monotonic() + limit_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                os.close(descriptor)
                return None
            time.sleep(POLL_S)
        else:
            return descriptor


def holder(path: Path) -> int | None:
    """The process id that the holder of a lock has written into it."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
