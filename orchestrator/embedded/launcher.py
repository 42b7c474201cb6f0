"""Become whoever the server shall run as, then become the server. A script on its own: standard library only.

    launcher.py IDENTITY SIGNAL OWNER LOCK COMMAND [ARGUMENT...]

IDENTITY is `self`, `namespace:UID:GID` (a user namespace that shows us as UID: our files stay ours) or
`account:UID:GID` (another account). SIGNAL is sent to the server when process OWNER dies (0: never). LOCK is an
inherited descriptor that holds a file lock; our process id, which becomes the server's, is written there. With the
command `--probe PATH...` it only finds out whether that identity can be taken and reaches each path: status 0 or 1.
"""

import ctypes
import os
import sys
from pathlib import Path
from typing import NoReturn

CLONE_NEWUSER = 0x10000000  # linux/sched.h
PR_SET_PDEATHSIG = 1  # linux/prctl.h, as the next four
PR_SET_SECUREBITS = 28
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
SECBIT_NO_SETUID_FIXUP = 1 << 2  # linux/securebits.h
CAP_DAC_OVERRIDE = 1  # linux/capability.h, as the next
CAPABILITY_VERSION_3 = 0x20080522

ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath}
"""All that a server gets: secrets, a PGDATA or an LD_PRELOAD of the caller are not its business."""

ON_LINUX = sys.platform == "linux"
LIBC = ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> None:
    """Raise the error of a C library call that reported one."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def enter_namespace(uid: int, gid: int) -> None:
    """Show ourselves as `uid` inside a new user namespace; outside, and on disk, we stay who we are.

    The order is the kernel's: see user_namespaces(7), "setgroups" before "gid_map".
    """
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    checked(LIBC.unshare(CLONE_NEWUSER))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {outer_uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {outer_gid} 1")


def become_account(uid: int, gid: int) -> None:
    """Turn into another account, and keep of root's powers only the one to pass folders that others may not enter.

    Without that power (not on Linux, or withheld from this container) the account must reach every path by itself.
    The secure bit keeps access(2) from forgetting the power: PostgreSQL looks for its own program with it.
    """
    keeps = ON_LINUX and LIBC.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0) == 0
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if keeps:
        keep_passing_folders()


def keep_passing_folders() -> None:
    """Drop every capability but CAP_DAC_OVERRIDE, and hand that one on to the server; none at all where we lack it."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    only = 1 << CAP_DAC_OVERRIDE
    # effective, permitted, inheritable for capabilities 0 to 31, then the same for the rest
    if LIBC.capset(header, (ctypes.c_uint32 * 6)(only, only, only, 0, 0, 0)) == 0:
        LIBC.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)
    else:
        checked(LIBC.capset(header, (ctypes.c_uint32 * 6)()))


def take(identity: str) -> None:
    """Become `identity`, in the spelling of the command line."""
    how, _, numbers = identity.partition(":")
    if how == "self":
        return
    uid, gid = (int(number) for number in numbers.split(":"))
    if how == "namespace":
        enter_namespace(uid, gid)
    else:
        become_account(uid, gid)


def reaches(path: str) -> bool:
    """Whether we can read a file, or list a folder."""
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError:
        return False
    return True


def main(identity: str, signal: str, owner: str, lock: str, *command: str) -> NoReturn:
    """Answer a probe, or turn into the server."""
    if command[0] == "--probe":
        try:
            take(identity)
        except (OSError, AttributeError):
            sys.exit(1)
        sys.exit(0 if all(reaches(path) for path in command[1:]) else 1)
    os.pwrite(int(lock), f"{os.getpid()}\n".encode(), 0)
    os.ftruncate(int(lock), len(f"{os.getpid()}\n"))
    take(identity)
    if ON_LINUX and int(signal):
        # After the change of identity, which clears it.
        checked(LIBC.prctl(PR_SET_PDEATHSIG, int(signal), 0, 0, 0))
        if os.getppid() != int(owner):
            sys.exit("the owner ended before the server began")
    os.execve(command[0], command, ENVIRONMENT)  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main(*sys.argv[1:])
