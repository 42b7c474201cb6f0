"""The embedded servers run for root, for an ordinary user, and for a user without a name, or say what to do instead."""

import os
import pwd
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

WAIT_LIMIT_S = 120
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become the users of these tests")

USE = """
import sys
from pathlib import Path
import psycopg
from sqlalchemy import create_engine, text
from orchestrator.embedded import EmbeddedError, EmbeddedServers, locate
for turn in (1, 2):
    try:
        servers = EmbeddedServers(Path(sys.argv[1]))
        servers.start()
    except EmbeddedError as error:
        sys.exit(str(error))
    with create_engine(servers.database_url).begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS memory (turn int)"))
        connection.execute(text("INSERT INTO memory VALUES (:turn)"), {"turn": turn})
        kept = connection.execute(text("SELECT count(*) FROM memory")).scalar_one()
    assert locate(Path(sys.argv[1])) == (servers.database_url, servers.broker_url)
    servers.stop()
    print(kept)
"""

ABANDON = """
import os, signal, sys, threading
from pathlib import Path
from orchestrator.embedded import EmbeddedServers
starter = threading.Thread(target=EmbeddedServers(Path(sys.argv[1])).start)
starter.start()
starter.join()
print("started", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""

# As in a container that forbids namespaces: a root with every user id, none of whose processes may make a namespace.
WITHOUT_NAMESPACES = """
import ctypes, os, sys
from pathlib import Path
ready, go = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    assert ctypes.CDLL(None).unshare(0x10000000) == 0
    os.write(ready[1], b"x")
    os.read(go[0], 1)
    os.setgid(0)
    os.setuid(0)
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
    os.execvp(sys.argv[1], sys.argv[1:])
os.read(ready[0], 1)
for kind in ("uid", "gid"):
    Path(f"/proc/{child}/{kind}_map").write_text("0 0 65536")
os.write(go[1], b"x")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every account may enter."""
    path = Path(tempfile.mkdtemp(prefix="cf-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@dataclass(frozen=True)
class Python:
    """An interpreter, and where it finds this project, its packages and its own library."""

    program: str
    paths: tuple[Path, ...]
    libraries: str = ""

    def start(self) -> list[str]:
        """The beginning of its command line."""
        places = ":".join(str(path) for path in self.paths)
        variables = [f"PYTHONPATH={places}", "PYTHONDONTWRITEBYTECODE=1", f"LD_LIBRARY_PATH={self.libraries}"]
        return ["env", *variables, self.program]

    def use(self, data_dir: Path) -> list[str]:
        """The command line that starts and stops the servers twice and prints how many rows are there each time."""
        return [*self.start(), "-c", USE, str(data_dir)]


OURS = Python(sys.executable, (ROOT, Path(psycopg.__file__).parents[1]))


def run(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"]}
    return subprocess.run(
        command, check=False, capture_output=True, text=True, env=environment, cwd="/", timeout=WAIT_LIMIT_S
    )


def as_user(uid: int) -> list[str]:
    """The beginning of a command line that turns into a user with no powers, as a login does."""
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--no-new-privs"]


def readable_by_all(python: Python) -> bool:
    return run(*as_user(65534), *python.start(), "-c", "import psycopg, redis, orchestrator.embedded").returncode == 0


def link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def mirror(folder: Path) -> Python:
    """The interpreter, the project and its packages again, by other names, where every account may enter."""
    standard = Path(os.__file__).parent
    trees = {
        standard: folder / "lib" / standard.name,
        OURS.paths[0] / "orchestrator": folder / "project" / "orchestrator",
        OURS.paths[1]: folder / "packages",
    }
    skipped = shutil.ignore_patterns("site-packages", "test", "tests", "__pycache__")
    for source, target in trees.items():
        shutil.copytree(source, target, copy_function=link_or_copy, ignore=skipped)
    for library in standard.parent.glob("libpython*"):
        shutil.copy2(library, folder / "lib")
    (folder / "bin").mkdir()
    program = folder / "bin" / standard.name
    shutil.copy2(Path(sys.executable).resolve(), program)
    return Python(str(program), (folder / "project", folder / "packages"), str(folder / "lib"))


@pytest.fixture(scope="module")
def shared() -> Iterator[Python]:
    """An interpreter that every account may run, with what it needs: ours may live in root's home folder."""
    folder = Path(tempfile.mkdtemp(prefix="cf-"))
    folder.chmod(0o755)
    found = OURS if readable_by_all(OURS) else mirror(folder)
    if not readable_by_all(found):
        pytest.skip("no account but root can run this interpreter, not even a copy of it")
    yield found
    shutil.rmtree(folder)


def assert_used_twice(done: subprocess.CompletedProcess[str]) -> None:
    assert (done.returncode, done.stdout.split()) == (0, ["1", "2"]), done.stderr


def owner_of(path: Path) -> int:
    return path.stat().st_uid


def test_an_ordinary_user_runs_them_as_himself(folder: Path, shared: Python) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    os.chown(folder, nobody, nobody)
    folder.chmod(0o700)
    assert_used_twice(run(*as_user(nobody), *shared.use(folder / "data")))
    assert owner_of(folder / "data" / "postgres" / "PG_VERSION") == nobody
    assert owner_of(folder / "data" / "valkey") == nobody


def test_a_user_id_without_a_name_runs_them_too(folder: Path, shared: Python) -> None:
    nameless = 54321
    assert nameless not in {entry.pw_uid for entry in pwd.getpwall()}
    os.chown(folder, nameless, nameless)
    assert_used_twice(run(*as_user(nameless), *shared.use(folder / "data")))
    assert owner_of(folder / "data" / "postgres" / "PG_VERSION") == nameless


def test_roots_files_stay_roots_in_a_folder_nobody_else_may_enter(folder: Path) -> None:
    folder.chmod(0o700)
    assert_used_twice(run(*OURS.use(folder / "data")))
    assert {owner_of(path) for path in folder.rglob("*")} == {0}


def test_root_without_namespaces_runs_them_as_another_account_behind_closed_doors(folder: Path) -> None:
    folder.chmod(0o700)
    assert_used_twice(run(sys.executable, "-c", WITHOUT_NAMESPACES, *OURS.use(folder / "data")))
    assert owner_of(folder) == 0
    assert owner_of(folder / "data") == 0
    assert owner_of(folder / "data" / "postgres" / "PG_VERSION") == pwd.getpwnam("daemon").pw_uid
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_containers_root_ends_what_another_account_was_left_with(folder: Path) -> None:
    contained = ["setpriv", "--bounding-set=-sys_ptrace,-sys_admin,-dac_read_search"]
    data_dir = folder / "data"
    abandon = [*OURS.start(), "-c", ABANDON, str(data_dir)]
    # Both in one namespace, as in one container: the root of another could not even signal the leftovers.
    both = f"{shlex.join(abandon)}; {shlex.join(OURS.use(data_dir))}"
    done = run(sys.executable, "-c", WITHOUT_NAMESPACES, *contained, "sh", "-c", both)
    assert (done.returncode, done.stdout.split()) == (0, ["started", "1", "2"]), done.stderr
    assert owner_of(data_dir / "postgres") == pwd.getpwnam("daemon").pw_uid


def test_root_goes_on_with_an_ordinary_users_data_as_that_user(folder: Path, shared: Python) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    os.chown(folder, nobody, nobody)
    folder.chmod(0o700)
    data_dir = folder / "data"
    assert_used_twice(run(*as_user(nobody), *shared.use(data_dir)))
    for file in data_dir.glob("*.lock"):
        assert owner_of(file) == nobody
    done = run(*OURS.use(data_dir))
    assert (done.returncode, done.stdout.split()) == (0, ["3", "4"]), done.stderr
    assert {owner_of(path) for path in (data_dir / "postgres").rglob("*")} == {nobody}
    done = run(*as_user(nobody), *shared.use(data_dir))
    assert (done.returncode, done.stdout.split()) == (0, ["5", "6"]), done.stderr


def test_root_that_may_do_neither_is_told_what_to_do(folder: Path) -> None:
    bound = ["setpriv", "--bounding-set=-setuid,-setgid"]
    done = run(sys.executable, "-c", WITHOUT_NAMESPACES, *bound, *OURS.use(folder / "data"))
    assert done.returncode == 1
    for remedy in ("ordinary user", "COUNTERFOIL_DATA_DIR", "COUNTERFOIL_DATABASE_URL"):
        assert remedy in done.stderr
