"""The composition root: settings in, the parts wired together out. Doors take what they need from ``Counterfoil``."""

import platform
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from config.celery import QUEUES, celery_app
from config.settings import Settings, secret_of
from orchestrator import tracing
from orchestrator.announce import Announcer
from orchestrator.bell import Message, Sender, ThreadedBell
from orchestrator.booking import Booker
from orchestrator.caller import Caller
from orchestrator.embedded import locate
from orchestrator.errors import BrokerUnavailable, ConfigurationError
from orchestrator.intake import Intake
from orchestrator.model import Transport
from orchestrator.perform import Performer
from orchestrator.policy import CONNECT_TIMEOUT_S, Policy
from orchestrator.publishers import ExchangePublisher, celery_sender
from orchestrator.receive import Receiver
from orchestrator.reconciliation.run import Reconciler
from orchestrator.record import Recorder
from orchestrator.refund_record import RefundRecorder
from orchestrator.refunding.intake import RefundIntake, UnreferencedRule
from orchestrator.refunding.perform import RefundPerformer
from orchestrator.ruling import Rulings
from orchestrator.store.database import Database
from orchestrator.store.differences import DifferenceStore
from orchestrator.store.links import LinkStore
from orchestrator.store.live import LiveStore
from orchestrator.store.pulses import PulseStore
from orchestrator.store.reconciliation import RunStore
from orchestrator.store.refunds import RefundStore
from orchestrator.store.rows import Row
from orchestrator.store.rulings import RulingStore
from orchestrator.store.shared_keys import KeyRings, SharedKeyStore
from orchestrator.store.store import Store
from orchestrator.store.tellings import TellingStore
from orchestrator.store.terminals import TerminalStore
from orchestrator.store.webhooks import WebhookStore
from orchestrator.subscription import COMPLETED, DISPLAY, Announce, Subscription, unheard
from orchestrator.tell import Lanes, Teller
from orchestrator.terminal import CloudAccess, LocalAccess, Terminals
from orchestrator.terminal_api import certificates
from orchestrator.terminal_api.acquirer_data import ApplicationInfo
from orchestrator.terminal_api.protection import KeyRing
from orchestrator.vigil import Vigil
from orchestrator.webhook_intake import WebhookIntake
from orchestrator.wire import LocalWire, product_version

#: Database work is short; a connection serves several threads in turn.
_CONNECTIONS_MAX: Final = 20

#: A tag key that was added or dropped is known everywhere after this.
_TAG_KEYS_FRESH_S: Final = 60.0


@dataclass(frozen=True)
class Urls:
    """Where the database and the broker are."""

    database: str
    broker: str


def urls(settings: Settings) -> Urls:
    """Take the URLs of the settings, or those of the embedded servers that run for the data folder.

    Raises:
        ConfigurationError: neither is there, with the command that starts them.
    """
    if settings.database_url and settings.broker_url:
        return Urls(settings.database_url, settings.broker_url)
    found = locate(settings.data_dir)
    if found is None:
        message = (
            f"COUNTERFOIL_DATABASE_URL or COUNTERFOIL_BROKER_URL is not set, and no embedded servers run for "
            f"{settings.data_dir}; start them with `counterfoil up`, or set both"
        )
        raise ConfigurationError(message)
    return Urls(settings.database_url or found[0], settings.broker_url or found[1])


class TagKeys:
    """The tag keys: those of the setting, else those in the database, re-read once a minute."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._fixed = [bytes.fromhex(key.get_secret_value()) for key in settings.tag_keys]
        self._store = store
        self._read: list[bytes] = []
        self._read_at_s = float("-inf")
        self._lock = threading.Lock()

    def __call__(self) -> Sequence[bytes]:
        """The signing key first, then all that verify."""
        if self._fixed:
            return self._fixed
        with self._lock:
            if time.monotonic() - self._read_at_s > _TAG_KEYS_FRESH_S:
                self._read = self._store.tag_keys()
                self._read_at_s = time.monotonic()
        if not self._read:
            message = "there is no tag key in the database; run `counterfoil db upgrade`, which makes one"
            raise ConfigurationError(message)
        return self._read


class Counterfoil:
    """Everything, wired; each part made when it is first asked for."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.urls = urls(settings)
        self.policy = Policy.scaled(settings.time_scale)
        tracing.check(settings.traces)

    @cached_property
    def database(self) -> Database:
        """The pool of connections."""
        return Database(self.urls.database, connections=_CONNECTIONS_MAX)

    @cached_property
    def store(self) -> Store:
        """The store."""
        return Store(self.database, self._subscription)

    @property
    def _subscription(self) -> Subscription:
        return Subscription(self.settings.callback_events)

    @cached_property
    def bell(self) -> ThreadedBell:
        """The bell."""
        return ThreadedBell(self._sender)

    def _sender(self) -> Sender:
        return celery_sender(celery_app(self.settings, self.urls.broker))

    @cached_property
    def announce(self) -> Announce:
        """Whoever tells those who listen on the exchange."""
        if not self.settings.exchange:
            return unheard
        return Announcer(lambda: ExchangePublisher(celery_app(self.settings, self.urls.broker)))

    @cached_property
    def recorder(self) -> Recorder:
        """The one path."""
        return Recorder(self.store, self.policy, self.bell, self.announce, keep_receipts=self.settings.receipts)

    @cached_property
    def tag_keys(self) -> TagKeys:
        """The tag keys."""
        return TagKeys(self.settings, self.store)

    @cached_property
    def intake(self) -> Intake:
        """The intake."""
        settings = self.settings
        schemes = ("https://",) if settings.environment == "live" else ("https://", "http://")
        return Intake(
            self.store,
            self.bell,
            settings.sale_id,
            settings.callback_url,
            schemes if settings.callback_secrets else (),
            self.announce,
        )

    @cached_property
    def live(self) -> LiveStore:
        """What terminals show and say."""
        url = self.settings.callback_url if self.settings.callback_secrets else None
        return LiveStore(self.database, url, tells=self._subscription.wants(DISPLAY))

    @cached_property
    def receiver(self) -> Receiver:
        """The receiver of notifications."""
        return Receiver(self.store, self.recorder, self.tag_keys, self.live, self._ring_of)

    def _ring_of(self, poi_id: str) -> KeyRing:
        """The keys of the terminal that a pushed message claims to be from; none of one that is not registered."""
        row = TerminalStore(self.database).one(poi_id, None)
        return self.key_rings(poi_id, row["merchant_account"], row["store"]) if row else KeyRing()

    @cached_property
    def key_rings(self) -> KeyRings:
        """The keys that terminals share with us."""
        return KeyRings(SharedKeyStore(self.database), secret_of)

    @cached_property
    def terminal(self) -> Terminals:
        """The terminals, through the cloud and on the local network.

        Raises:
            ConfigurationError: there is no API key, and not every terminal is local; or no root for local ones.
        """
        return Terminals(
            self._cloud_access(),
            self._local_access(),
            self.key_rings,
            connect_timeout_s=CONNECT_TIMEOUT_S,
            sync_read_timeout_s=self.policy.sync_read_timeout_s,
            local_read_timeout_s=self.policy.local_read_timeout_s,
            status_read_timeout_s=self.policy.status_read_timeout_s,
        )

    def _cloud_access(self) -> CloudAccess | None:
        settings = self.settings
        if settings.api_key is None:
            if settings.transport is Transport.LOCAL:
                return None
            message = "COUNTERFOIL_API_KEY is not set; without it nothing can be sent"
            raise ConfigurationError(message)
        return CloudAccess(
            environment=settings.environment,
            api_key=settings.api_key.get_secret_value(),
            family=settings.cloud_api,
            cloud_url=settings.cloud_url,
            region=settings.region,
            sealed=settings.cloud_encryption,
        )

    def _local_access(self) -> LocalAccess | None:
        settings = self.settings
        try:
            root = certificates.load_roots(settings.terminal_roots, settings.environment)
        except ConfigurationError:
            if settings.terminal_roots or settings.transport is Transport.LOCAL:
                raise
            return None  # on live the root has to be fetched, and who has no local terminal needs none

        def fits(certificate: Mapping[str, Any], poi_id: str) -> bool:
            name = certificates.common_name(certificate)
            legacy = settings.legacy_terminal_certificates
            return certificates.name_fits(name, settings.environment, poi_id, legacy_allowed=legacy)

        wire = LocalWire(certificates.terminal_tls(root), fits, CONNECT_TIMEOUT_S)
        return LocalAccess(wire=wire, plaintext_allowed=settings.environment != "live")

    @cached_property
    def booker(self) -> Booker:
        """Whoever finds what an entry in the platform's books is about."""
        differences = DifferenceStore(self.database)
        return Booker(LinkStore(self.database), differences, self.recorder, self.refunds, self.refund_recorder)

    @cached_property
    def webhooks(self) -> WebhookIntake:
        """The intake of standard webhooks."""
        settings = self.settings
        keys = [bytes.fromhex(key.get_secret_value()) for key in settings.hmac_keys]
        return WebhookIntake(WebhookStore(self.database), self.booker, keys, live=settings.environment == "live")

    @cached_property
    def rulings(self) -> Rulings:
        """What people decide about unknown payments."""
        return Rulings(RulingStore(self.database), self.recorder, self.settings.ruling_second_above)

    @cached_property
    def refunds(self) -> RefundStore:
        """The store of refunds."""
        return RefundStore(self.database, self._subscription)

    @cached_property
    def refund_recorder(self) -> RefundRecorder:
        """The one path of refunds."""
        return RefundRecorder(self.refunds, self.policy, self.bell, self.announce)

    @cached_property
    def refund_intake(self) -> RefundIntake:
        """The intake of refunds."""
        settings = self.settings
        rule = UnreferencedRule(allowed=settings.unreferenced_refunds, limits=settings.unreferenced_refund_limit_minor)
        return RefundIntake(
            self.refunds, self.store, self.refund_recorder, self.bell, settings.sale_id, settings.callback_url, rule
        )

    @cached_property
    def refund_performer(self) -> RefundPerformer:
        """Whoever does the commands of refunds."""
        return RefundPerformer(self.refunds, self.refund_recorder, self.recorder, self.terminal, self.policy)

    @cached_property
    def reconciler(self) -> Reconciler:
        """Whoever holds our rows against the platform's reports."""
        settings = self.settings
        heard = settings.callback_secrets and self._subscription.wants(COMPLETED)
        return Reconciler(
            RunStore(self.database),
            self.recorder,
            self.booker,
            self.policy,
            self.reports_dir,
            self.webhooks.process_again,
            settings.callback_url if heard else None,
        )

    def start_run(self, run: Row) -> None:
        """Have a worker go through a run that waits.

        Raises:
            BrokerUnavailable: the broker did not take the message; the run waits on.
        """
        shown = f"merchant_account={run['merchant_account']} run_id={run['id']}"
        message = Message("tasks.reconciliation.run", "reconciliation", {"run_id": str(run["id"])}, shown)
        try:
            self._sender()([message])
        except Exception as error:  # whatever the broker's library raises
            raise BrokerUnavailable from error

    @property
    def reports_dir(self) -> Path:
        """The folder of the platform's reports."""
        return self.settings.reports_dir or self.settings.data_dir / "reports"

    @cached_property
    def tellings(self) -> TellingStore:
        """What callers are to be told."""
        return TellingStore(self.database)

    @cached_property
    def teller(self) -> Teller:
        """Whoever tells them."""
        settings = self.settings
        caller = Caller(
            [secret.get_secret_value() for secret in settings.callback_secrets],
            allow_private=settings.callback_allow_private,
            https_only=settings.environment == "live",
        )
        return Teller(self.tellings, caller.post, self.policy, Lanes(settings.worker_concurrency))

    @cached_property
    def performer(self) -> Performer:
        """Whoever does commands."""
        return Performer(
            self.store,
            self.recorder,
            self.terminal,
            self.policy,
            self.tag_keys,
            self.teller.tell,
            self.application,
            till_prints=self.settings.receipts,
        )

    @cached_property
    def vigil(self) -> Vigil:
        """Whoever watches that beat ticks and that queues are served."""
        return Vigil(PulseStore(self.database), QUEUES if self.settings.canaries else ())

    @cached_property
    def application(self) -> ApplicationInfo:
        """Which software the platform is told to deal with."""
        settings = self.settings
        return ApplicationInfo(
            version=product_version(),
            os=platform.system(),
            os_version=platform.release(),
            platform_name=settings.platform_name,
            platform_version=settings.platform_version,
            integrator=settings.integrator,
        )

    def start_traces(self, role: str) -> None:
        """Send this process's traces, where a setting says where to; ``role`` is what the process does."""
        tracing.start(self.settings.traces, self.settings.traces_sample, f"counterfoil-{role}")

    def close(self) -> None:
        """Let go of what was opened."""
        for name in ("bell", "announce", "terminal", "database"):
            close = getattr(self.__dict__.get(name), "close", None)
            if close is not None:
                close()
        tracing.stop()
