"""Counterfoil: a payment goes out once, and ends with proof.

Where to start, in the order in which it reads best (fifteen minutes):

1. ``model``        what we believe: Transaction, State, Outcome, Money
2. ``evidence``     everything that can be observed
3. ``transitions``  THE TABLE
4. ``classify``     what a piece of evidence means for a transaction; every guard (``books`` for webhooks and reports)
5. ``decide``       (transaction, evidence) -> Decision; pure
6. ``commands``     what must be done, and when; ``policy`` has the numbers, ``errors`` the error tree

Then the shell, which is thin:

7. ``record``       the one path: load, decide, write
8. ``perform``      do one due command, which ends by producing evidence
9. ``intake``       a submission becomes a transaction, or a refusal; ``receive`` turns what is pushed into evidence
10. ``store``       the only package that knows SQL
11. ``terminal``    what is asked of terminals, by cloud or on the local network; ``wire`` has the sockets;
                    ``terminal_api`` is the protocol, with the envelope (``protection``) and the certificates
12. ``tell``        tells the caller; ``caller`` is the only module that posts to callers; ``bell`` rings commands,
    ``announce`` tells listeners; ``publishers`` is who talks to the broker
13. ``bootstrap``   wires it; ``web``, ``cli``, ``tasks`` are doors: they parse, call one function, and answer;
                    ``web.console`` is the one for people with a browser

The books: ``webhooks`` and ``reports`` read them, ``booking`` finds what they are about, ``webhook_intake`` takes what
is pushed, ``reconciliation`` holds whole days against them; ``ruling`` is for what only a person can settle.

``search`` reads what a person types to find a payment.

Refunds repeat this beside it: ``refunds`` is their core, ``refund_record`` their one path, ``refunding`` takes them in
and does their commands.

Seen from outside: ``log_context`` is what log lines are about, ``tracing`` follows a payment through all of it.

Beside it: ``embedded`` brings real servers from packages, ``simulator`` plays the platform and its terminals, and
``client`` is what callers import.

Who may import whom: tasks, web, cli -> bootstrap -> perform, intake -> record -> store, terminal -> the core (1 to 6),
which uses the standard library only. ``terminal_api`` imports the core. Nothing here imports ``tasks``; only
``config.settings`` reads the environment; the clock is the database's, and is passed in. A test enforces it.
"""
