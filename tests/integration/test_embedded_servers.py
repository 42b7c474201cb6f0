"""The embedded PostgreSQL and broker keep what they were given, whatever is killed, and touch nothing of others."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
import redis
from kombu import Connection
from sqlalchemy.engine import make_url

from orchestrator.embedded import EmbeddedError, EmbeddedServers, locate
from orchestrator.embedded.folders import holder

WAIT_LIMIT_S = 30
LINUX = sys.platform == "linux"

OWNER = """
import sys, threading
from pathlib import Path
from orchestrator.embedded import EmbeddedServers
servers = EmbeddedServers(Path(sys.argv[1]))
if sys.argv[2] == "in a thread":
    starter = threading.Thread(target=servers.start)
    starter.start()
    starter.join()
else:
    servers.start()
print("ready", flush=True)
sys.stdin.read()
servers.stop()
"""


@pytest.fixture(scope="module")
def stopped() -> Iterator[Path]:
    """A data folder whose servers were started once and stopped: a copy of it starts faster than a new one."""
    parent = Path(tempfile.mkdtemp(prefix="cf-"))
    with EmbeddedServers(parent / "data"):
        pass
    yield parent / "data"
    shutil.rmtree(parent)


@pytest.fixture
def new_dir() -> Iterator[Path]:
    """A folder that is not made yet. Its path is short, since a socket's address has room for a hundred bytes."""
    parent = Path(tempfile.mkdtemp(prefix="cf-"))
    yield parent / "data"
    if locate(parent / "data") is not None:  # a test that failed half-way left them running
        with EmbeddedServers(parent / "data"):
            pass
    shutil.rmtree(parent)


@pytest.fixture
def data_dir(stopped: Path, new_dir: Path) -> Path:
    """A folder of the test's own whose servers are stopped."""
    return Path(shutil.copytree(stopped, new_dir, ignore=shutil.ignore_patterns("valkey*")))


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_LIMIT_S
    while not condition():
        assert time.monotonic() < until, "the condition did not come true in time"
        time.sleep(0.02)


def database(url: str) -> psycopg.Connection[tuple[object, ...]]:
    parts = make_url(url)
    return psycopg.connect(
        host=str(parts.query["host"]),
        port=str(parts.query["port"]),
        user=parts.username,
        dbname=parts.database,
        autocommit=True,
    )


def broker(url: str) -> redis.Redis:
    return redis.Redis.from_url(url.replace("redis+socket", "unix", 1).partition("?")[0])


def remember(servers: EmbeddedServers, words: str) -> None:
    """Write `words` to both servers; on return both have answered that they have them."""
    write(servers.database_url, servers.broker_url, words)


def remember_through(data_dir: Path, words: str) -> None:
    """The same, to the servers of a folder that another process owns."""
    urls = locate(data_dir)
    assert urls is not None
    write(*urls, words)


def write(database_url: str, broker_url: str, words: str) -> None:
    with database(database_url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS memory (words text)")
        connection.execute("INSERT INTO memory VALUES (%s)", [words])
    with broker(broker_url) as client:
        client.rpush("memory", words)
        # An answered write may wait for a running sync of the file before it leaves the process (appendfsync everysec).
        wait_for(lambda: client.info("persistence")["aof_buffer_length"] == 0)


def recalled(servers: EmbeddedServers) -> tuple[list[str], list[str]]:
    with database(servers.database_url) as connection, broker(servers.broker_url) as client:
        rows = connection.execute("SELECT words FROM memory ORDER BY words").fetchall()
        return [str(row[0]) for row in rows], sorted(word.decode() for word in client.lrange("memory", 0, -1))


def server_ids(data_dir: Path) -> tuple[int, int]:
    """The process ids of PostgreSQL and of the broker on a folder."""
    found = holder(data_dir / "postgres.lock"), holder(data_dir / "valkey.lock")
    assert found[0] is not None
    assert found[1] is not None
    return found[0], found[1]


def alive(process_id: int) -> bool:
    """Whether a process runs; one that has ended and waits for somebody to ask how does not."""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(process_id)], check=False, capture_output=True, text=True)
    return not state.stdout.strip().startswith("Z")


def own(data_dir: Path, how: str) -> subprocess.Popen[bytes]:
    """Another process that owns the servers of `data_dir`, which answer."""
    command = [sys.executable, "-c", OWNER, str(data_dir), how]
    root = str(Path(__file__).parents[2])
    owner = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root}
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"ready\n"
    return owner


def kill(owner: subprocess.Popen[bytes]) -> None:
    owner.kill()
    owner.communicate(timeout=WAIT_LIMIT_S)


def test_a_clean_stop_and_a_new_start_keep_rows_and_keys(new_dir: Path) -> None:
    with EmbeddedServers(new_dir) as servers:
        remember(servers, "first")
    assert locate(new_dir) is None
    with EmbeddedServers(new_dir) as servers:
        remember(servers, "second")
        assert recalled(servers) == (["first", "second"], ["first", "second"])


@pytest.mark.parametrize("victims", [(0,), (1,), (0, 1)], ids=["postgres", "broker", "both"])
def test_a_killed_server_is_started_again_with_nothing_lost(data_dir: Path, victims: tuple[int, ...]) -> None:
    with EmbeddedServers(data_dir) as servers:
        remember(servers, "committed")
        killed = server_ids(data_dir)
        for victim in victims:
            os.kill(killed[victim], signal.SIGKILL)
        wait_for(lambda: not servers.running())
        servers.start()
        assert servers.running()
        assert recalled(servers) == (["committed"], ["committed"])
        assert [before != after for before, after in zip(killed, server_ids(data_dir), strict=True)] == [
            number in victims for number in (0, 1)
        ]


@pytest.mark.skipif(not LINUX, reason="only Linux tells a server that its owner has died")
def test_servers_end_cleanly_when_their_owner_is_killed(data_dir: Path) -> None:
    owner = own(data_dir, "in the main thread")
    remember_through(data_dir, "committed")
    servers = server_ids(data_dir)
    kill(owner)
    wait_for(lambda: not any(alive(server) for server in servers))
    assert "database system is shut down" in (data_dir / "logs" / "postgres.log").read_text()
    with EmbeddedServers(data_dir) as again:
        assert recalled(again) == (["committed"], ["committed"])


def test_servers_that_outlived_a_killed_owner_are_ended_before_new_ones_start(data_dir: Path) -> None:
    owner = own(data_dir, "in a thread")
    leftovers = server_ids(data_dir)
    kill(owner)
    assert locate(data_dir) is not None
    with EmbeddedServers(data_dir) as servers:
        assert not any(alive(leftover) for leftover in leftovers)
        remember(servers, "after")
        assert recalled(servers) == (["after"], ["after"])


def test_what_an_orphan_had_committed_is_there_after_the_next_start(data_dir: Path) -> None:
    owner = own(data_dir, "in a thread")
    remember_through(data_dir, "committed")
    kill(owner)
    with EmbeddedServers(data_dir) as servers:
        assert recalled(servers) == (["committed"], ["committed"])


def test_everything_killed_at_once_and_a_process_id_used_again_lose_nothing(data_dir: Path) -> None:
    owner = own(data_dir, "in a thread")
    remember_through(data_dir, "committed")
    servers = server_ids(data_dir)
    owner.kill()
    for server in servers:
        os.kill(server, signal.SIGKILL)
    owner.communicate(timeout=WAIT_LIMIT_S)
    # As if the system had given the dead servers' ids to somebody else, who is alive and must stay so.
    pid_file = data_dir / "postgres" / "postmaster.pid"
    pid_file.write_text(pid_file.read_text().replace(str(servers[0]), str(os.getpid()), 1))
    (data_dir / "valkey.lock").write_text(f"{os.getpid()}\n")
    with EmbeddedServers(data_dir) as again:
        assert recalled(again) == (["committed"], ["committed"])


def test_a_cluster_that_was_being_made_when_its_owner_died_is_made_anew(new_dir: Path) -> None:
    (new_dir / "postgres.new" / "base").mkdir(parents=True)
    with EmbeddedServers(new_dir) as servers:
        assert servers.running()
    assert not (new_dir / "postgres.new").exists()


def test_servers_outlive_the_thread_that_started_them(data_dir: Path) -> None:
    servers = EmbeddedServers(data_dir)
    starter = threading.Thread(target=servers.start)
    starter.start()
    starter.join(WAIT_LIMIT_S)
    try:
        remember(servers, "still here")
        assert servers.running()
    finally:
        servers.stop()


def test_a_second_owner_is_refused_and_told_who_is_the_first(data_dir: Path) -> None:
    with EmbeddedServers(data_dir) as servers:
        with pytest.raises(EmbeddedError, match=f"in use by process {os.getpid()}"):
            EmbeddedServers(data_dir).start()
        assert servers.running()
    with EmbeddedServers(data_dir) as servers:
        assert servers.running()


def test_running_servers_are_found_by_their_data_folder(data_dir: Path) -> None:
    assert locate(data_dir) is None
    with EmbeddedServers(data_dir) as servers:
        assert locate(data_dir) == (servers.database_url, servers.broker_url)
        os.kill(server_ids(data_dir)[1], signal.SIGKILL)
        wait_for(lambda: locate(data_dir) is None)


def open_sockets(process: Path) -> set[str]:
    """The inodes of a process's sockets; of none when it has ended, as a server's helpers do."""
    found = set()
    with suppress(FileNotFoundError):
        for link in (process / "fd").iterdir():
            name = str(link.readlink())
            if name.startswith("socket:"):
                found.add(name.removeprefix("socket:[").rstrip("]"))
    return found


@pytest.mark.skipif(not LINUX, reason="reads the kernel's table of sockets")
def test_nothing_listens_on_a_network(data_dir: Path) -> None:
    tables = [Path("/proc/net") / name for name in ("tcp", "tcp6", "udp", "udp6")]
    network = {line.split()[9] for table in tables if table.exists() for line in table.read_text().splitlines()[1:]}
    assert network, "no network socket at all on this machine: this test could not fail"
    with EmbeddedServers(data_dir):
        folders = {data_dir / "postgres", data_dir / "valkey"}
        processes = [path.parent for path in Path("/proc").glob("[0-9]*/cwd") if path.readlink() in folders]
        sockets = {inode for process in processes for inode in open_sockets(process)}
        network = {line.split()[9] for table in tables if table.exists() for line in table.read_text().splitlines()[1:]}
    assert len(processes) > len(folders)
    assert sockets
    assert not sockets & network


def test_sockets_are_in_a_private_folder(data_dir: Path) -> None:
    with EmbeddedServers(data_dir):
        folder = data_dir / "run"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {path.name for path in folder.iterdir() if path.is_socket()} == {".s.PGSQL.5432", "valkey.sock"}


def test_folders_that_were_there_before_keep_their_modes_and_owners(new_dir: Path) -> None:
    def state() -> list[tuple[Path, int, int, int]]:
        found = [(path, path.stat()) for path in (new_dir, *new_dir.parents)]
        return [(path, about.st_mode, about.st_uid, about.st_gid) for path, about in found]

    new_dir.mkdir(mode=0o750)
    before = state()
    for _ in range(2):
        with EmbeddedServers(new_dir):
            assert state() == before
    assert state() == before


def test_a_socket_folder_that_others_may_enter_is_refused_not_corrected(new_dir: Path) -> None:
    (new_dir / "run").mkdir(parents=True)
    (new_dir / "run").chmod(0o755)
    with pytest.raises(EmbeddedError, match="mode 0700"):
        EmbeddedServers(new_dir).start()
    assert stat.S_IMODE((new_dir / "run").stat().st_mode) == 0o755


def test_a_path_too_long_for_a_socket_gets_a_private_folder_elsewhere_and_leaves_none_behind(new_dir: Path) -> None:
    long = new_dir / ("a-folder-with-a-long-name" * 4)
    for _ in range(2):
        with EmbeddedServers(long) as servers:
            folder = Path((long / "run-folder").read_text().strip())
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert locate(long) == (servers.database_url, servers.broker_url)
        assert not folder.exists()


def test_a_path_with_spaces_and_signs_reaches_clients_unharmed(new_dir: Path) -> None:
    with EmbeddedServers(new_dir.parent / "Käse & more 100%") as servers:
        remember(servers, "found")
        assert recalled(servers) == (["found"], ["found"])
        with Connection(servers.broker_url) as connection, connection.SimpleQueue("rings") as queue:
            queue.put({"payment": "P1"})
            assert queue.get(timeout=WAIT_LIMIT_S).payload == {"payment": "P1"}


def test_nothing_is_traded_for_speed(data_dir: Path) -> None:
    with EmbeddedServers(data_dir) as servers:
        with database(servers.database_url) as connection:
            settings = {str(row[0]): row[1] for row in connection.execute("SELECT name, setting FROM pg_settings")}
            row = connection.execute("SELECT datcollate, pg_encoding_to_char(encoding) FROM pg_database").fetchone()
        with broker(servers.broker_url) as client:
            kept = client.config_get()
    assert row == ("C", "UTF8")
    assert [settings[name] for name in ("fsync", "synchronous_commit", "full_page_writes")] == ["on"] * 3
    assert [kept[name] for name in ("appendonly", "appendfsync", "maxmemory-policy")] == [
        "yes",
        "everysec",
        "noeviction",
    ]


def test_rows_do_not_reach_the_log(data_dir: Path) -> None:
    with EmbeddedServers(data_dir) as servers, database(servers.database_url) as connection:
        connection.execute("CREATE TABLE memory (words text PRIMARY KEY)")
        connection.execute("INSERT INTO memory VALUES ('a-secret')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("INSERT INTO memory VALUES ('a-secret')")
    log = (data_dir / "logs" / "postgres.log").read_text()
    assert "duplicate key" in log
    assert "a-secret" not in log


def program(folder: Path, name: str, version: str) -> None:
    """A program that says it is a server of that version, and is none."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{version} sha=00000000:0 malloc=libc bits=64'\n")
    path.chmod(0o755)


def server_product(servers: EmbeddedServers) -> str:
    with broker(servers.broker_url) as client:
        return str(client.info("server").get("server_name", "redis"))


def test_without_a_program_on_the_path_the_packages_suffice(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(data_dir / "nothing"))
    with EmbeddedServers(data_dir) as servers:
        assert server_product(servers) == "valkey"


def test_a_program_that_is_too_old_is_passed_over(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(data_dir.parent / "bin", "redis-server", "Redis server v=6.0.16")
    monkeypatch.setenv("PATH", str(data_dir.parent / "bin"))
    with EmbeddedServers(data_dir) as servers:
        assert server_product(servers) == "valkey"


def test_the_broker_that_wrote_the_data_goes_on_with_it(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = os.environ["PATH"]
    monkeypatch.setenv("PATH", str(data_dir / "nothing"))
    with EmbeddedServers(data_dir) as servers:
        remember(servers, "kept")
    program(data_dir.parent / "bin", "redis-server", "Redis server v=7.0.15")
    monkeypatch.setenv("PATH", f"{data_dir.parent / 'bin'}:{path}")
    with EmbeddedServers(data_dir) as servers:
        assert recalled(servers)[1] == ["kept"]


def test_a_server_program_of_the_machine_comes_before_the_package(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(data_dir.parent / "bin", "redis-server", "Redis server v=7.0.15")
    monkeypatch.setenv("PATH", str(data_dir.parent / "bin"))
    with pytest.raises(EmbeddedError, match="Valkey ended while it started") as refused:
        EmbeddedServers(data_dir).start()
    assert "Redis server v=7.0.15" in str(refused.value)


def test_a_server_that_cannot_start_says_why_and_leaves_nothing_running(data_dir: Path) -> None:
    with EmbeddedServers(data_dir):
        pass
    (data_dir / "postgres" / "PG_VERSION").write_text("12\n")
    with pytest.raises(EmbeddedError, match="incompatible with server"):
        EmbeddedServers(data_dir).start()
    assert not any(alive(server) for server in server_ids(data_dir))
