"""A real PostgreSQL and a real Valkey from packages, so that one command runs everything on a machine without servers.

Read in this order: supervisor (what callers use), postgres and valkey (what is particular to each), process (starting,
stopping, leftovers), privileges and launcher (who the servers are), folders.
"""

from orchestrator.embedded.errors import EmbeddedError
from orchestrator.embedded.supervisor import EmbeddedServers, locate

__all__ = ["EmbeddedError", "EmbeddedServers", "locate"]
