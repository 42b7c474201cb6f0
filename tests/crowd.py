"""A database full of payments, written by the server itself: thousands in a moment, a million in some minutes.

Payment ``n`` is what it is by arithmetic on ``n``, so that a test can say which ones a search has to find. The last one
was taken just now, each before it ``apart_s`` earlier. Every hundredth is unknown; every fiftieth of the others was
declined; the newest tenth is not in the books yet. Another merchant account has one payment for each fifty of ours,
with our references and cards. Constraints hold, triggers and foreign keys are not asked.
"""

from typing import Any, Final

import psycopg

from tests.services import libpq_url

MERCHANT: Final = "HarbourBakery"
OTHER_MERCHANT: Final = "HillsideBooks"
TERMINALS: Final = 500

_TERMINALS: Final = """
INSERT INTO terminals (poi_id, merchant_account, store, transport)
SELECT 'V400m-' || lpad(n::text, 9, '0'), CASE WHEN n < %(terminals)s THEN %(merchant)s ELSE %(other)s END,
    'Quay ' || n %% 20, 'async'
FROM generate_series(0, %(terminals)s::int) AS n
"""

_PAYMENTS: Final = """
INSERT INTO payments (id, merchant_account, idempotency_key, fingerprint, reference, poi_id, sale_id, service_id,
    transport, currency, amount_minor, send_by, created_at, sent_at, answer_by, state, outcome, reason, concluded_at,
    reconciled_at, authorised_minor, psp_reference, tender_reference, late, provisional, options, result, sequence,
    journal_hash)
SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70008' || pad
        || lpad(to_hex(n), 12, '0'))::uuid,
    merchant, 'key-' || n, repeat('0', 64), 'r-' || n, poi_id, 'Till', lpad(n::text, 10, '0'), 'async',
    CASE WHEN n %% 9 = 0 THEN 'GBP' ELSE 'EUR' END, minor, at + interval '1 minute', at, at, at + interval '150 s',
    CASE WHEN unknown THEN 'unknown' WHEN n > fresh THEN 'confirmed' ELSE 'reconciled' END,
    CASE WHEN unknown THEN NULL WHEN declined THEN 'declined' ELSE 'approved' END,
    CASE WHEN n %% 1000 = 0 THEN 'contradiction' WHEN unknown THEN 'no_answer' END,
    CASE WHEN NOT unknown THEN at + interval '9 s' END,
    CASE WHEN NOT unknown AND n <= fresh THEN at + interval '1 minute' END,
    CASE WHEN NOT unknown AND NOT declined THEN minor END,
    CASE WHEN NOT unknown THEN 'PSP' || lpad(n::text, 13, '0') END,
    CASE WHEN NOT unknown THEN 'BV0q' || lpad(n::text, 15, '0') END,
    NOT unknown AND NOT declined AND n > fresh AND n %% 50 = 3,
    NOT unknown AND NOT declined AND n > fresh AND n %% 50 = 4,
    CASE WHEN n %% 4 = 0 THEN jsonb_build_object('sale_reference_id', 'basket-' || n / 4) ELSE '{}' END,
    CASE WHEN NOT unknown THEN jsonb_build_object('result', CASE WHEN declined THEN 'Failure' ELSE 'Success' END,
        'card_brand', (ARRAY['mc', 'visa', 'amex', 'maestro'])[1 + n %% 4],
        'card_last4', lpad((n %% 9973)::text, 4, '0'),
        'card_entry_mode', 'Contactless', 'auth_code', lpad((n %% 1000000)::text, 6, '0')) END,
    3, repeat('0', 64)
FROM (
    SELECT n, %(merchant)s::text AS merchant, '000' AS pad,
        'V400m-' || lpad((n %% %(terminals)s::int)::text, 9, '0') AS poi_id,
        100 + (n * 37) %% 9000 AS minor, n %% 100 = 0 AS unknown, n %% 50 = 1 AS declined,
        %(payments)s::bigint - %(payments)s::bigint / 10 AS fresh,
        now() - (%(payments)s::bigint - n) * make_interval(secs => %(apart_s)s) AS at
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
    UNION ALL
    SELECT n, %(other)s::text, '001', 'V400m-' || lpad(%(terminals)s::text, 9, '0'), 100 + (n * 37) %% 9000,
        n %% 100 = 0, n %% 50 = 1, %(payments)s::bigint,
        now() - (%(payments)s::bigint - n) * make_interval(secs => %(apart_s)s)
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n WHERE n %% 50 = 0
) AS each ORDER BY n
"""

_LINES: Final = """
INSERT INTO journal (payment_id, sequence, at, evidence, event, before, after, detail_hash, hash)
SELECT id, s, sent_at + s * interval '1 s',
    (ARRAY['submission_accepted', 'send_started', CASE state WHEN 'unknown' THEN 'answer_window_passed'
        ELSE 'result_reported' END])[s],
    (ARRAY['accepted', 'send_started', CASE WHEN state = 'unknown' THEN 'answer_window_passed' WHEN outcome = 'approved'
        THEN 'charged' ELSE 'not_charged' END])[s],
    CASE WHEN s > 1 THEN 'pending' END,
    CASE WHEN s < 3 THEN 'pending' WHEN state = 'unknown' THEN 'unknown' ELSE 'confirmed' END,
    repeat('0', 64), repeat('0', 64)
FROM payments, generate_series(1, 3) AS s ORDER BY number, s
"""
_DETAILS: Final = """
INSERT INTO journal_details (payment_id, sequence, salt, detail)
SELECT payment_id, sequence, repeat('0', 32), CASE sequence
    WHEN 3 THEN '{"channel": "connection", "result": "Success"}' ELSE '{}' END::jsonb FROM journal
"""
_TELLINGS: Final = """
INSERT INTO tellings (payment_id, merchant_account, sequence, type, at, url, data, attempts, delivered_at, parked_at)
SELECT id, merchant_account, 3, 'payment.' || CASE state WHEN 'unknown' THEN 'unknown' ELSE 'confirmed' END, sent_at,
    'https://till.example/told', json_build_object('id', id, 'reference', reference), 1,
    CASE WHEN number % 200 <> 0 THEN sent_at END, CASE WHEN number % 200 = 0 THEN sent_at END
FROM payments WHERE number % 4 = 0 ORDER BY number
"""
_REFUNDS: Final = """
INSERT INTO refunds (id, payment_id, merchant_account, idempotency_key, fingerprint, reference, poi_id, sale_id,
    service_id, transport, currency, amount_minor, send_by, created_at, asked_by, state, outcome, reason, sent_at,
    answer_by, concluded_at, psp_reference, sequence, journal_hash)
SELECT gen_random_uuid(), id, merchant_account, 'key-' || number, fingerprint, reference, poi_id, sale_id, service_id,
    transport, currency, amount_minor, send_by, created_at, 'user somebody',
    CASE WHEN number % 1000 = 2 THEN 'unknown' ELSE 'confirmed' END,
    CASE WHEN number % 1000 <> 2 THEN 'refunded' END, CASE WHEN number % 1000 = 2 THEN 'no_answer' END, sent_at,
    answer_by, CASE WHEN number % 1000 <> 2 THEN concluded_at END, 'RF' || lpad(number::text, 14, '0'), 3, journal_hash
FROM payments WHERE number % 100 = 2 AND outcome = 'approved' ORDER BY number
"""
#: Nine of ten were closed.
_ALARMS: Final = """
INSERT INTO alarms (payment_id, name, sequence, at, closed_at, closed_by, closed_reason)
SELECT id, CASE WHEN reason = 'contradiction' THEN 'contradiction' ELSE 'checks_exhausted' END, 3, created_at,
    CASE WHEN reason = 'no_answer' THEN now() END, CASE WHEN reason = 'no_answer' THEN 'user somebody' END,
    CASE WHEN reason = 'no_answer' THEN 'settled with the shop' END
FROM payments WHERE state = 'unknown' ORDER BY number
"""
_WEBHOOKS: Final = """
INSERT INTO webhooks (digest, live, event_code, success, merchant_account, psp_reference, reference, currency,
    amount_minor, happened_at, unreadable, received_at, became, processed_at, payment_id)
SELECT md5(id::text) || md5(number::text), false, 'AUTHORISATION', outcome = 'approved', merchant_account,
    psp_reference, reference, currency, amount_minor, sent_at, false, sent_at, 'recorded', sent_at, id
FROM payments WHERE state = 'reconciled' AND number % 4 = 1 ORDER BY number
"""
_QUARANTINE: Final = """
INSERT INTO webhook_quarantine (digest, size_bytes, header, body)
SELECT md5(n::text) || md5(n::text), 3, 'x', 'abc' FROM generate_series(1, 20) AS n
"""
_DIFFERENCES: Final = """
INSERT INTO differences (identity, facts, merchant_account, kind, payment_id, psp_reference, reference, ours, source,
    state)
SELECT md5(id::text) || md5(id::text), repeat('0', 64), merchant_account, 'missing_there', id, psp_reference, reference,
    jsonb_build_object('state', 'charged', 'amount', jsonb_build_object('currency', currency, 'value', amount_minor)),
    'report', CASE WHEN number % 500 = 5 THEN 'open' ELSE 'closed' END
FROM payments WHERE number % 50 = 5 ORDER BY number
"""
_RUN: Final = f"""
WITH run AS (
    INSERT INTO reconciliation_runs (id, merchant_account, first_day, last_day, started_by, state, started_at,
        finished_at, summary)
    VALUES (gen_random_uuid(), '{MERCHANT}', current_date - 1, current_date - 1, 'user somebody', 'done', now(), now(),
        '{{}}')
    RETURNING id
)
INSERT INTO reconciliation_found (run_id, difference_id)
SELECT run.id, d.id FROM run, (SELECT id FROM differences ORDER BY number DESC LIMIT 100) AS d
"""
_EVENTS: Final = """
INSERT INTO terminal_events (poi_id, payment_id, kind, name, at)
SELECT poi_id, id, 'display', 'Present card', sent_at FROM payments WHERE number % 20 = 0 ORDER BY number
"""

#: Payments that one statement writes: a million in one would hold its sort on disk.
_AT_ONCE: Final = 100_000


def crowd(url: str, payments: int, *, terminals: int = TERMINALS, apart_s: float = 30.0) -> None:
    """Fill a database that is up to date."""
    values: dict[str, Any] = {
        "merchant": MERCHANT, "other": OTHER_MERCHANT, "terminals": terminals, "payments": payments, "apart_s": apart_s,
    }  # fmt: skip
    with psycopg.connect(libpq_url(url), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica; SET synchronous_commit = off")
        connection.execute(_TERMINALS, values)
        for first in range(1, payments + 1, _AT_ONCE):
            last = min(first + _AT_ONCE - 1, payments)
            connection.execute(_PAYMENTS, {**values, "first": first, "last": last})
        others = (_LINES, _DETAILS, _TELLINGS, _REFUNDS, _ALARMS, _WEBHOOKS, _QUARANTINE, _DIFFERENCES, _RUN, _EVENTS)
        for statement in others:
            connection.execute(statement.encode())
        connection.execute("VACUUM (ANALYZE)")
