"""Payments that wait, written by SQL: taken in, sent, and not answered yet, each on a terminal of its own."""

import psycopg

from bench.contenders import MERCHANT

_TERMINALS = """
INSERT INTO terminals (poi_id, merchant_account, transport)
SELECT 'S1F2-' || lpad(n::text, 9, '0'), %(merchant)s, 'async' FROM generate_series(%(first)s::int, %(last)s::int) AS n
"""

_PAYMENTS = """
INSERT INTO payments (id, merchant_account, idempotency_key, fingerprint, reference, poi_id, sale_id, service_id,
    transport, currency, amount_minor, send_by, sequence, sent_at, answer_by, holds_terminal, claim_token, journal_hash)
SELECT gen_random_uuid(), %(merchant)s, 'waiting-' || n, md5(n::text), 'waiting-' || n, poi.id, 'counterfoil',
    lpad(n::text, 10, '0'), 'async', 'EUR', 1050, now() + interval '1 minute', 2, now(),
    now() + interval '1 day', poi.id, gen_random_uuid(), md5(n::text) || md5(n::text)
FROM generate_series(%(first)s::int, %(last)s::int) AS n, LATERAL (SELECT 'S1F2-' || lpad(n::text, 9, '0') AS id) AS poi
"""

_LINES = """
INSERT INTO journal (payment_id, sequence, at, evidence, event, before, after, detail_hash, hash)
SELECT id, s, now(), CASE s WHEN 1 THEN 'submission_accepted' ELSE 'send_started' END,
    CASE s WHEN 1 THEN 'accepted' ELSE 'send_started' END, CASE s WHEN 2 THEN 'pending' END, 'pending',
    journal_hash, journal_hash
FROM payments, generate_series(1, 2) AS s WHERE idempotency_key LIKE 'waiting-%%' AND NOT EXISTS (
    SELECT 1 FROM journal WHERE payment_id = payments.id)
"""

_COMMANDS = """
INSERT INTO commands (payment_id, kind, due_at, ring_at)
SELECT id, 'expect_answer', answer_by, answer_by FROM payments WHERE idempotency_key LIKE 'waiting-%%' AND NOT EXISTS (
    SELECT 1 FROM commands WHERE payment_id = payments.id)
"""

#: The first of them fall due one after the other.
_FALL_DUE = """
WITH due AS (
    UPDATE payments SET answer_by = now() + make_interval(
        secs => %(after_s)s::float8 + substr(reference, 9)::float8 / %(per_s)s::float8)
    WHERE reference LIKE 'waiting-%%' AND substr(reference, 9)::int <= %(count)s RETURNING id, answer_by
)
UPDATE commands c SET due_at = due.answer_by, ring_at = due.answer_by FROM due WHERE c.payment_id = due.id
"""

_LATE = """
SELECT extract(epoch FROM j.at - p.answer_by)::float8 FROM payments p JOIN journal j ON j.payment_id = p.id
WHERE p.reference LIKE 'waiting-%%' AND j.evidence = 'answer_window_passed'
"""


def insert_waiting(url: str, first: int, last: int) -> None:
    """Payments with these numbers, due tomorrow; the schema checks them as it checks every other."""
    numbers = {"merchant": MERCHANT, "first": first, "last": last}
    with psycopg.connect(url) as connection:
        for statement in (_TERMINALS, _PAYMENTS, _LINES, _COMMANDS):
            connection.execute(statement, numbers)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


def fall_due(url: str, *, count: int, after_s: float, per_s: float) -> None:
    """Let the first ``count`` fall due, from ``after_s`` seconds on."""
    with psycopg.connect(url) as connection:
        connection.execute(_FALL_DUE, {"count": count, "after_s": after_s, "per_s": per_s})


def lateness_s(url: str) -> list[float]:
    """How late each answer window was found to have passed, by the journal."""
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute(_LATE).fetchall()]
