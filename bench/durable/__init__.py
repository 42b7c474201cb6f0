"""The same service as a durable workflow of DBOS, as its own documentation teaches it."""
