"""What every test may ask for, and the rule that CI skips nothing."""

import signal
from collections.abc import Iterator

import pytest

from tests.services import Embedded, find_postgres, find_rabbitmq, find_redis, fresh_database, fresh_redis, in_ci


def pytest_configure() -> None:
    """Let our processes hear Ctrl-C: a shell starts what it runs in the background with SIGINT ignored, for good."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def embedded() -> Iterator[Embedded]:
    """PostgreSQL and Redis from packages, for where none is installed; nothing starts until it is asked for."""
    servers = Embedded()
    yield servers
    servers.stop()


@pytest.fixture(scope="session")
def postgres_url(embedded: Embedded) -> str:
    """A PostgreSQL server in which to make throw-away databases."""
    return find_postgres(embedded)


@pytest.fixture(scope="session")
def redis_url(embedded: Embedded) -> str:
    """A Redis or Valkey server; its database 0 is not ours to use."""
    return find_redis(embedded)


@pytest.fixture(scope="session")
def rabbitmq_url() -> str:
    """A RabbitMQ server; name queues so that nobody else's are met."""
    return find_rabbitmq()


@pytest.fixture
def empty_database_url(postgres_url: str) -> Iterator[str]:
    """A database of the test's own, without tables."""
    with fresh_database(postgres_url) as url:
        yield url


@pytest.fixture
def redis_broker_url(redis_url: str) -> Iterator[str]:
    """A numbered Redis database of the test's own, as Celery's broker."""
    with fresh_redis(redis_url) as url:
        yield url


def skipped_reports(session: pytest.Session) -> list[pytest.TestReport]:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    return list(reporter.stats.get("skipped", [])) if reporter else []


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A test that did not run proves nothing: in CI one skip makes the run red."""
    skipped = skipped_reports(session)
    if not in_ci() or not skipped:
        return
    if session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter:
        reporter.write_sep("=", f"{len(skipped)} skipped, which CI counts as failed", red=True)
        for report in skipped:
            reporter.write_line(f"SKIPPED {report.nodeid}: {reason(report)}")


def reason(report: pytest.TestReport) -> str:
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
