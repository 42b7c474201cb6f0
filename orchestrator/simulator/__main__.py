"""`python -m orchestrator.simulator`: the simulator as a process of its own."""

from __future__ import annotations

import asyncio
import errno
import signal
import sys
from collections.abc import Sequence

from orchestrator.simulator import options, report_command
from orchestrator.simulator.books import Books
from orchestrator.simulator.certificates import Certificates
from orchestrator.simulator.choice import Choice
from orchestrator.simulator.cloud import Cloud
from orchestrator.simulator.delivery import Delivery, Poster
from orchestrator.simulator.dialogues import Dialogues
from orchestrator.simulator.ledger import Ledger, read_lines
from orchestrator.simulator.local import LocalPorts
from orchestrator.simulator.memory import rebuild
from orchestrator.simulator.options import Options
from orchestrator.simulator.routes import Routes
from orchestrator.simulator.sender import Sender
from orchestrator.simulator.server import listen
from orchestrator.simulator.tasks import Tasks
from orchestrator.simulator.terminal import Terminal


def build(chosen: Options, ledger: Ledger) -> Cloud:
    """Wire the parts together, with the terminals as the ledger remembers them."""

    async def wait(protocol_s: float) -> None:
        await asyncio.sleep(protocol_s / chosen.time_scale)

    poster = Poster(chosen.notify, chosen.username, chosen.password) if chosen.notify else None
    terminals = {poi_id: Terminal(poi_id) for poi_id in chosen.terminals}
    key = chosen.newest_key if chosen.notify_encrypted else None
    delivery = Delivery(ledger, poster, wait, lambda: cloud.faults.now().lose_notifications, key)
    choice = Choice(chosen.seed, chosen.mix or {}, webhook_mix=chosen.webhook_mix or {})
    sender = None
    if chosen.webhook:
        webhooks = Poster(chosen.webhook, "", "")
        sender = Sender(ledger, webhooks, chosen.hmac_keys, wait, lambda: cloud.faults.now().lose_webhooks)
    books = Books(chosen, ledger, choice, Tasks(), wait, sender)
    dialogues = Dialogues(chosen, ledger, delivery, lambda poi_id: cloud.faults.now().states.get(poi_id, ""), books)
    cloud = Cloud(chosen, ledger, dialogues, choice, terminals)
    unfinished = rebuild(ledger.path, terminals)
    books.resume(read_lines(ledger.path), terminals.values())
    for terminal, payment in unfinished:
        dialogues.resume(terminal, payment)
    return cloud


def _open_local(cloud: Cloud) -> LocalPorts:
    """The terminals' own ports; the root that vouches for them is written out before anybody can connect."""
    chosen = cloud.options
    folder = chosen.ledger.with_name(f"{chosen.ledger.name}.local")
    certificates = Certificates(folder)
    if chosen.root_out is not None:
        chosen.root_out.write_bytes(certificates.root_pem)
    ports = LocalPorts(cloud, certificates, folder / "ports.json")
    ports.open()
    return ports


async def run(chosen: Options) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    ledger = Ledger(chosen.ledger)
    cloud = build(chosen, ledger)
    local = _open_local(cloud) if chosen.local_host else None
    server = await listen(chosen.host, chosen.port, Routes(cloud))
    host, port = server.sockets[0].getsockname()[:2]
    sys.stdout.write(f"listening on http://{host}:{port}\n")
    sys.stdout.flush()
    await stop.wait()
    server.close()
    if local is not None:
        local.close()
    ledger.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Run with these arguments; the exit status."""
    given = sys.argv[1:] if argv is None else argv
    if any(argument.partition("=")[0] in report_command.SOURCES for argument in given):
        return report_command.main(given)
    chosen = options.parse(given)
    try:
        asyncio.run(run(chosen))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        sys.stderr.write(
            f"simulate: something listens on {chosen.host}:{chosen.port} already; choose another --listen\n"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
