"""Die before or after a system call on a socket: `python -m crash.syscalls PID SEAM` follows a process by ptrace.

Every thread is followed, and one counter counts them all, so that each seam of a run is tried once; strace counts for
each thread and each call by itself, and cannot do that. A seam is the moment before a call that connects, writes, reads
or closes a connection, or the moment after one that succeeded. SIGKILL at the entry of a call keeps it from being made.

Prints `ready` once it follows, and one JSON object at its end: how many seams there were, and where it killed.
"""

import ctypes
import errno
import json
import os
import platform
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

_SEIZE, _INTERRUPT, _LISTEN, _SYSCALL_INFO, _CONTINUE = 0x4206, 0x4207, 0x4208, 0x420E, 24  # linux/ptrace.h
_SYSGOOD, _CLONE = 0x1, 0x8
_EVENT_STOP: Final = 128
_WALL: Final = 0x40000000
_STOPPING: Final = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
_ENTRY, _EXIT = 1, 2

#: asm/unistd.h of each machine; these calls take the socket as their first argument.
_CALLS: Final[dict[str, dict[int, str]]] = {
    "x86_64": {
        0: "read", 1: "write", 19: "readv", 20: "writev", 42: "connect", 44: "sendto", 45: "recvfrom", 46: "sendmsg",
        47: "recvmsg", 48: "shutdown", 288: "accept4",
    },
    "aarch64": {
        63: "read", 64: "write", 65: "readv", 66: "writev", 203: "connect", 206: "sendto", 207: "recvfrom",
        211: "sendmsg", 212: "recvmsg", 210: "shutdown", 242: "accept4",
    },
}  # fmt: skip
_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


class _Info(ctypes.Structure):
    """`struct ptrace_syscall_info`; `number` is the return value at an exit."""

    _fields_ = (
        ("op", ctypes.c_uint8), ("pad", ctypes.c_uint8 * 3), ("arch", ctypes.c_uint32),
        ("instruction_pointer", ctypes.c_uint64), ("stack_pointer", ctypes.c_uint64),
        ("number", ctypes.c_uint64), ("arguments", ctypes.c_uint64 * 6), ("rest", ctypes.c_uint64 * 2),
    )  # fmt: skip


def supported() -> bool:
    """Whether this machine's system calls are known here."""
    return sys.platform == "linux" and platform.machine() in _CALLS


def _ptrace(request: int, tid: int, address: int = 0, data: int = 0) -> int:
    result: int = _libc.ptrace(request, tid, address, data)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


@dataclass
class Follower:
    """Follows a process and all of its threads."""

    pid: int
    seam: int
    count: int = 0
    place: str = ""
    _inside: dict[int, str] = field(default_factory=dict)  # threads in a call that counts
    _threads: set[int] = field(default_factory=set)

    def attach(self) -> None:
        """Follow every thread that there is; those to come follow by themselves."""
        found = True
        while found:
            found = False
            for tid in [int(thread.name) for thread in Path(f"/proc/{self.pid}/task").iterdir()]:
                if tid not in self._threads:
                    _ptrace(_SEIZE, tid, 0, _SYSGOOD | _CLONE)
                    _ptrace(_INTERRUPT, tid)
                    self._threads.add(tid)
                    found = True

    def follow(self) -> None:
        """Return when the process is gone."""
        while True:
            try:
                tid, status = os.waitpid(-1, _WALL)
            except ChildProcessError:
                return
            if os.WIFSTOPPED(status):
                self._stopped(tid, os.WSTOPSIG(status), status >> 16)
            elif tid == self.pid:
                return

    def _stopped(self, tid: int, number: int, event: int) -> None:
        request, delivered = _CONTINUE, 0
        if number == signal.SIGTRAP | 0x80:
            self._at_call(tid)
        elif event == _EVENT_STOP and number in _STOPPING:
            request = _LISTEN
        elif not event:
            delivered = number
        try:
            _ptrace(request, tid, 0, delivered)
        except OSError as error:
            if error.errno != errno.ESRCH:  # killed in between
                raise

    def _at_call(self, tid: int) -> None:
        info = _Info()
        try:
            _ptrace(_SYSCALL_INFO, tid, ctypes.sizeof(info), ctypes.addressof(info))
        except OSError:
            return
        if info.op == _ENTRY:
            name = _CALLS[platform.machine()].get(info.number)
            if name and self._is_socket(info.arguments[0]):
                self._inside[tid] = name
                self._pass(f"before {name}")
        elif info.op == _EXIT and (call := self._inside.pop(tid, None)) and info.number < 1 << 63:
            self._pass(f"after {call}")

    def _pass(self, place: str) -> None:
        self.count += 1
        if self.count == self.seam:
            self.place = place
            os.kill(self.pid, signal.SIGKILL)

    def _is_socket(self, descriptor: int) -> bool:
        try:
            return str(Path(f"/proc/{self.pid}/fd/{descriptor}").readlink()).startswith("socket:")
        except OSError:
            return False


def main() -> NoReturn:
    """Follow, kill, report."""
    follower = Follower(int(sys.argv[1]), int(sys.argv[2]))

    def report(*_: object) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # told to end while it ends by itself: it reports once
        print(json.dumps({"count": follower.count, "place": follower.place}), flush=True)
        os._exit(0)  # the kernel lets go of whom we follow

    signal.signal(signal.SIGTERM, report)
    follower.attach()
    print("ready", flush=True)
    follower.follow()
    report()


if __name__ == "__main__":
    main()
