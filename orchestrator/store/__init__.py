"""The only package that knows SQL.

``tables`` define the schema, ``words`` what its columns say; ``migrations`` make it, ``schema`` runs those, and
``revisions`` numbers them. ``statements`` holds the hot path's SQL; ``store`` offers it as methods; ``pages`` reads
lists; ``chain`` verifies journals without the database's help.
"""

from orchestrator.store.store import Store

__all__ = ["Store"]
