"""The gauntlet: payments under load while everything is killed, stopped and cut; a judge that trusts no product code.

``python -m gauntlet --payments 2000 --seed 1 --broker redis --kills 40`` runs it from a checkout. Reading order:

- ``options``   what a run is
- ``servers``   private servers that may be stopped, and ``line``, which can be cut where a server is shared
- ``stack``     the product and the simulator as real processes on those servers
- ``load``      callers: submissions over HTTP and by task, repeated as good callers repeat, and the client's log
- ``faults``    the seeded plan of what is killed, stopped and cut, and when
- ``settle``    waits until nothing is left to do
- ``dump``      the database by plain SQL, as JSON
- ``checker``   the judge: client log, dump and ledger in, violations out; ``chain`` recomputes the journal's hashes
- ``report``    the table, and the JSON object
"""
