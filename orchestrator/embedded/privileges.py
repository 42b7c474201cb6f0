"""Under which identity the servers run: PostgreSQL refuses root, and asks the system for the name of its own user id.

An ordinary user with a name runs them as himself. Otherwise, in this order, the first that works: a user namespace that
shows us as another account while the files stay ours; as root, that account itself. Else we refuse, with the remedy.
"""

import os
import pwd
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from orchestrator.embedded.errors import EmbeddedError

LAUNCHER = Path(__file__).with_name("launcher.py")
PROBE_LIMIT_S = 20
"""A probe takes 0.05 s; this bounds a machine that is badly overloaded. Our choice."""

OVERFLOW_UID = 65534
"""How the kernel shows user ids that a namespace does not map (user_namespaces(7)): never a name to trust."""

PREFERRED_ACCOUNT = "daemon"
"""Present on Linux distributions and on macOS for unprivileged services; any other named account serves too."""


@dataclass(frozen=True)
class Identity:
    """Who the servers are. `spelling` is the launcher's; `uid` and `gid` own their files as seen from outside;
    `names` are the operating system names under which PostgreSQL sees the clients that it may let in.
    """

    spelling: str
    uid: int
    gid: int
    names: tuple[str, ...]

    def own(self, path: Path) -> None:
        """Give a file or folder that we have just made to this identity."""
        if (os.geteuid(), os.getegid()) != (self.uid, self.gid):
            os.chown(path, self.uid, self.gid)


def choose(data_dir: Path, cluster: Path, programs: list[Path]) -> Identity:
    """The identity for the servers of `data_dir`, which exists; a cluster that exists already keeps its owner."""
    user = os.geteuid()
    ours = _name(user)
    if user != 0 and ours is not None:
        return Identity("self", user, os.getegid(), (ours,))
    needed = [str(path) for path in (data_dir, *programs)]
    for identity in _others(user, cluster.stat() if cluster.exists() else None):
        if _works(identity, needed):
            return identity
    who = "root" if user == 0 else f"the user id {user}, which has no name on this machine,"
    message = (
        f"PostgreSQL does not run as {who} and neither a user namespace nor another account can use {data_dir}: run as "
        "an ordinary user, set COUNTERFOIL_DATA_DIR to a folder that every account may enter, or set "
        "COUNTERFOIL_DATABASE_URL."
    )
    raise EmbeddedError(message)


def launch_command(identity: Identity, *, signal: int, lock: int, command: list[str]) -> list[str]:
    """The command line that runs `command` as `identity`; see launcher.py for the arguments."""
    head = [sys.executable, "-I", "-S", str(LAUNCHER), identity.spelling]
    return [*head, str(signal), str(os.getpid()), str(lock), *command]


def _name(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _others(user: int, cluster: os.stat_result | None) -> list[Identity]:
    """The identities to try, best first, for a user who cannot run PostgreSQL as himself."""
    account = _unprivileged_account()
    found: list[Identity] = []
    if account is not None and (cluster is None or cluster.st_uid == user):
        spelling = f"namespace:{account.pw_uid}:{account.pw_gid}"
        found.append(Identity(spelling, user, os.getegid(), (account.pw_name,)))
    if user != 0:
        return found
    if cluster is not None:
        name = _name(cluster.st_uid)
        account = pwd.getpwnam(name) if name is not None and cluster.st_uid != 0 else None
    if account is not None:
        spelling = f"account:{account.pw_uid}:{account.pw_gid}"
        found.append(Identity(spelling, account.pw_uid, account.pw_gid, (_name(0) or "root", account.pw_name)))
    return found


def _unprivileged_account() -> pwd.struct_passwd | None:
    accounts = [entry for entry in pwd.getpwall() if entry.pw_uid not in {0, OVERFLOW_UID}]
    return min(accounts, key=lambda entry: (entry.pw_name != PREFERRED_ACCOUNT, entry.pw_uid), default=None)


def _works(identity: Identity, needed: list[str]) -> bool:
    command = launch_command(identity, signal=0, lock=0, command=["--probe", *needed])
    try:
        done = subprocess.run(command, check=False, capture_output=True, timeout=PROBE_LIMIT_S)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
