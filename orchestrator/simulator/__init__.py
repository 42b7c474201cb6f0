"""A fake cloud with fake terminals: its own process, its own state, the real wire format over real HTTP.

It shares no code with the product, so that a misunderstanding on one side shows on the other. Reading order:

- `scenarios`: how a terminal can behave, as a table of data; `choice` picks one for each payment
- `payment`: one payment at a terminal, and how it ended; `terminal`: one dialogue at a time, and the memory
- `incoming`: a message, read; `cloud`: what happens to it; `routes`: which path leads where; `server`: HTTP down to the
  socket
- `channel`: how a message came and how its answer goes; `sealing`: envelopes under a shared key; `flaws`: spoilt ones
- `local`: the terminals' own ports, over TLS; `certificates`: what they present there
- `aftermath`: what comes afterwards, as a table of data; `books`: refunds, and what the platform's books learn
- `webhooks`, `sender`, `by_hand`: standard webhooks; `stories`, `reports`, `report_command`: reports for reconciliation
- `messages`, `encoding`: bodies as a terminal writes them; `delivery`: notifications to the product
- `ledger`: what really happened, fsynced before anybody hears of it
- `process`: starts it as a subprocess, for tests, the demo and the benchmarks
"""
