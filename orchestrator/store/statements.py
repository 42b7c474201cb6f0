"""The hot path's SQL: accept, claim, record, ring. One round trip each; row, journal and commands in one statement.

PostgreSQL 15 is the oldest server, and nothing here is newer. Data-modifying CTEs run as one database transaction on
one snapshot; what two processes can race for is settled by the row that both must update. Times are the server's.
"""

from typing import Final


def compact(statement: str) -> str:
    """On one line: psycopg takes a statement apart anew at each use when it is longer than 4,096 characters."""
    return " ".join(statement.split())


#: A journal line's hash: SHA-256 over the hash before it and everything the line says, joined by ``|``. ``chain``
#: computes the same in Python, on its own.
LINE_HASH: Final = """
encode(sha256(convert_to(concat_ws('|', {previous}, {payment_id}::text, ({sequence})::text,
    to_char({at} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    {evidence}, {event}, coalesce({before}, ''), {after}, coalesce({digest}, ''), {detail_hash}), 'UTF8')), 'hex')
""".strip()

LOCK_SALE: Final = "SELECT pg_advisory_xact_lock(hashtextextended(%(merchant_account)s || '|' || %(reference)s, 0))"

_FIRST_HASH: Final = LINE_HASH.format(
    previous="''",
    payment_id="%(id)s",
    sequence="1",
    at="now()",
    evidence="'submission_accepted'",
    event="'accepted'",
    before="NULL::text",
    after="'pending'",
    digest="NULL::text",
    detail_hash="%(detail_hash)s::text",
)

#: What the sale's earlier payments say: one that is open, and what is left of those that were charged. One that was
#: paid back whole is as if it had not been charged.
_EARLIER: Final = """
    earlier AS MATERIALIZED (
        SELECT id, number, state, outcome, amount_minor, authorised_minor - refunded_minor AS kept_minor, currency
        FROM payments
        WHERE merchant_account = %(merchant_account)s AND reference = %(reference)s
          AND idempotency_key <> %(idempotency_key)s
          AND (state IN ('pending', 'unknown') OR authorised_minor > refunded_minor)
    ),
    open_one AS (SELECT id FROM earlier WHERE state IN ('pending', 'unknown') ORDER BY number DESC LIMIT 1),
    charged_one AS (
        SELECT (array_agg(id ORDER BY number DESC))[1] AS id,
               max(amount_minor) - sum(kept_minor) AS left_minor,
               bool_and(currency = %(currency)s AND outcome = 'partially_approved') AS divisible
        FROM earlier WHERE outcome IS NOT NULL HAVING count(*) > 0
    )
"""

ACCEPT: Final = compact(f"""
WITH same AS (
        SELECT id, fingerprint FROM payments
        WHERE merchant_account = %(merchant_account)s AND idempotency_key = %(idempotency_key)s
    ),
    terminal AS (
        SELECT poi_id, transport FROM terminals
        WHERE poi_id = %(poi_id)s AND merchant_account = %(merchant_account)s AND removed_at IS NULL
    ),
    {_EARLIER},
    refused AS (
        SELECT CASE
            WHEN EXISTS (SELECT 1 FROM same) THEN 'same'
            WHEN NOT EXISTS (SELECT 1 FROM terminal) THEN 'unknown-terminal'
            WHEN %(override_by)s::text IS NOT NULL THEN NULL
            WHEN EXISTS (SELECT 1 FROM open_one) THEN 'payment-open'
            WHEN EXISTS (SELECT 1 FROM charged_one
                         WHERE NOT (divisible AND left_minor > 0 AND %(amount_minor)s <= left_minor))
                THEN 'already-charged'
        END AS why
    ),
    queue AS (
        SELECT EXISTS (SELECT 1 FROM payments WHERE poi_id = %(poi_id)s AND state = 'pending' AND sent_at IS NULL)
            OR EXISTS (SELECT 1 FROM payments WHERE holds_terminal = %(poi_id)s) AS busy
    ),
    accepted AS (
        INSERT INTO payments (id, merchant_account, idempotency_key, fingerprint, reference, poi_id, sale_id,
            service_id, transport, currency, amount_minor, send_by, options, callback_url, override_by,
            override_reason, trace, journal_hash)
        SELECT %(id)s, %(merchant_account)s, %(idempotency_key)s, %(fingerprint)s, %(reference)s, terminal.poi_id,
            %(sale_id)s, %(service_id)s, terminal.transport, %(currency)s, %(amount_minor)s,
            least(%(submitted_at)s::timestamptz, now()) + make_interval(secs => %(send_by_s)s), %(options)s,
            %(callback_url)s, %(override_by)s, %(override_reason)s, %(trace)s, {_FIRST_HASH}
        FROM terminal, refused WHERE refused.why IS NULL
        RETURNING *
    ),
    line AS (
        INSERT INTO journal (payment_id, sequence, at, evidence, event, before, after, detail_hash, hash)
        SELECT id, 1, now(), 'submission_accepted', 'accepted', NULL, 'pending', %(detail_hash)s, journal_hash
        FROM accepted
    ),
    detail AS (
        INSERT INTO journal_details (payment_id, sequence, salt, detail)
        SELECT id, 1, %(salt)s, %(detail)s FROM accepted
    ),
    planned AS (
        INSERT INTO commands (payment_id, kind, due_at, ring_at)
        SELECT accepted.id, 'send', now(), now() + make_interval(secs => %(ring_again_s)s) FROM accepted
        UNION ALL SELECT accepted.id, 'expire', accepted.send_by, accepted.send_by FROM accepted
        RETURNING id, kind
    )
SELECT (SELECT why FROM refused) AS refused, (SELECT busy FROM queue) AS busy,
       (SELECT id FROM same) AS same_id, (SELECT fingerprint FROM same) AS same_fingerprint,
       (SELECT id FROM open_one) AS open_id, (SELECT id FROM charged_one) AS charged_id,
       (SELECT id FROM planned WHERE kind = 'send') AS command_id, accepted.*
FROM (SELECT 1) AS one LEFT JOIN accepted ON true
""")

_CLAIM_HASH: Final = LINE_HASH.format(
    previous="p.journal_hash",
    payment_id="p.id",
    sequence="p.sequence + 1",
    at="now()",
    evidence="'send_started'",
    event="'send_started'",
    before="'pending'",
    after="'pending'",
    digest="NULL::text",
    detail_hash="%(detail_hash)s::text",
)

#: The one-way claim. It fails when the payment was claimed before, its shopper may have left, the books speak of it,
#: its terminal is held or taken, an older payment is queued for it, or an unknown one was not asked about since its
#: window passed (unless nobody asks about it any more: it must not block its terminal for good).
CLAIM: Final = f"""
WITH claimed AS (
        UPDATE payments p SET sent_at = now(), answer_by = now() + make_interval(secs => %(window_s)s),
            holds_terminal = p.poi_id, claim_token = %(token)s, sequence = p.sequence + 1,
            journal_hash = {_CLAIM_HASH}
        FROM terminals t
        WHERE p.id = (SELECT payment_id FROM commands WHERE id = %(command_id)s AND kind = 'send')
          AND p.state = 'pending' AND p.sent_at IS NULL AND p.send_by > now() AND p.books IS NULL
          AND t.poi_id = p.poi_id AND t.merchant_account = p.merchant_account AND t.held_at IS NULL
          AND NOT EXISTS (SELECT 1 FROM payments h WHERE h.holds_terminal = p.poi_id)
          AND NOT EXISTS (SELECT 1 FROM refunds r WHERE r.holds_terminal = p.poi_id)
          AND NOT EXISTS (SELECT 1 FROM payments q WHERE q.poi_id = p.poi_id AND q.state = 'pending'
                          AND q.sent_at IS NULL AND q.number < p.number)
          AND NOT EXISTS (SELECT 1 FROM payments u WHERE u.poi_id = p.poi_id AND u.state = 'unknown'
                          AND u.reason = 'no_answer' AND NOT u.asked_since_unknown
                          AND EXISTS (SELECT 1 FROM commands k WHERE k.payment_id = u.id AND k.kind = 'check_status'))
        RETURNING p.*, t.region, t.cloud_api, t.address, t.store, t.till_prints, now() AS claimed_at
    ),
    line AS (
        INSERT INTO journal (payment_id, sequence, at, evidence, event, before, after, detail_hash, hash)
        SELECT id, sequence, now(), 'send_started', 'send_started', 'pending', 'pending', %(detail_hash)s, journal_hash
        FROM claimed
    ),
    detail AS (
        INSERT INTO journal_details (payment_id, sequence, salt, detail)
        SELECT id, sequence, %(salt)s, '{{}}' FROM claimed
    ),
    gone AS (
        DELETE FROM commands WHERE payment_id = (SELECT id FROM claimed) AND kind IN ('send', 'expire')
    ),
    planned AS (
        INSERT INTO commands (payment_id, kind, due_at, ring_at)
        SELECT id, 'expect_answer', answer_by, answer_by FROM claimed
    )
SELECT * FROM claimed
"""

#: A claim whose commit was in doubt is still ours when the row carries our token.
CLAIMED_WITH: Final = """
SELECT p.*, t.region, t.cloud_api, t.address, t.store, t.till_prints, p.sent_at AS claimed_at
FROM payments p JOIN terminals t USING (poi_id)
WHERE p.claim_token = %(token)s AND p.sent_at > now() - interval '1 minute' AND p.state = 'pending'
"""

#: A send that may not start yet waits: the head of its terminal's queue looks again soon, should a wake-up have been
#: lost in a race; the others are woken by whoever goes before them. A wake-up that commits while this runs has moved
#: ``due_at``, and wins: what was seen of the queue is older than it.
PARK_SEND: Final = """
UPDATE commands c SET ring_at = CASE WHEN seen.behind THEN 'infinity'::timestamptz
    ELSE now() + make_interval(secs => %(look_again_s)s) END
FROM (
    SELECT w.id, w.due_at, EXISTS (SELECT 1 FROM payments q WHERE q.poi_id = p.poi_id AND q.state = 'pending'
        AND q.sent_at IS NULL AND q.number < p.number) AS behind
    FROM commands w JOIN payments p ON p.id = w.payment_id WHERE w.id = %(command_id)s AND w.kind = 'send'
) AS seen
WHERE c.id = seen.id AND c.due_at = seen.due_at
"""

LOAD: Final = "SELECT *, clock_timestamp() AS read_at FROM payments WHERE id = %(id)s"

LOAD_BY_SERVICE_ID: Final = """
SELECT *, clock_timestamp() AS read_at FROM payments WHERE poi_id = %(poi_id)s AND service_id = %(service_id)s
"""

LOAD_FOR_COMMAND: Final = """
SELECT p.*, t.region, t.cloud_api, t.address, t.store, t.reassigned_at, c.kind AS command_kind,
       c.due_at AS command_due_at, clock_timestamp() AS read_at, c.due_at <= now() AS is_due
FROM commands c JOIN payments p ON p.id = c.payment_id LEFT JOIN terminals t ON t.poi_id = p.poi_id
WHERE c.id = %(command_id)s
"""

_RECORD_HASH: Final = LINE_HASH.format(
    previous="p.journal_hash",
    payment_id="p.id",
    sequence="%(sequence)s::int",
    at="%(at)s::timestamptz",
    evidence="%(evidence)s::text",
    event="%(event)s::text",
    before="%(before)s::text",
    after="%(state)s::text",
    digest="%(digest)s::text",
    detail_hash="%(detail_hash)s::text",
)

#: Row, journal line, commands, alarm, and the waking of the next payment of a terminal that becomes free. Two may leave
#: a queue at the same instant: the lock has the first wait for the second and then wake the one behind it, and as
#: everybody wakes only those behind, they never wait for each other.
RECORD: Final = compact(f"""
WITH moved AS (
        UPDATE payments p SET state = %(state)s::text, outcome = %(outcome)s, reason = %(reason)s,
            sequence = %(sequence)s::int,
            concluded_at = %(concluded_at)s, reconciled_at = %(reconciled_at)s,
            authorised_minor = %(authorised_minor)s, psp_reference = %(psp_reference)s,
            tender_reference = %(tender_reference)s, late = %(late)s, provisional = %(provisional)s,
            abort_asked = %(abort_asked)s, refused_with = %(refused_with)s, not_found_at = %(not_found_at)s,
            checked_at = %(checked_at)s, checks = %(checks)s, asked_since_unknown = %(asked_since_unknown)s,
            sentinel = %(sentinel)s, books = %(books)s, result = coalesce(%(result)s, p.result),
            sent_at = coalesce(p.sent_at, %(sent_at)s), answer_by = coalesce(p.answer_by, %(sent_at)s),
            holds_terminal = CASE WHEN %(state)s::text = 'pending' THEN p.holds_terminal END,
            journal_hash = {_RECORD_HASH}
        WHERE p.id = %(id)s AND p.sequence = %(expected_sequence)s
        RETURNING p.id, p.number, p.poi_id, p.reference, p.transport, p.callback_url, p.journal_hash,
            p.merchant_account
    ),
    line AS (
        INSERT INTO journal (payment_id, sequence, at, evidence, event, before, after, digest, detail_hash, hash)
        SELECT id, %(sequence)s::int, %(at)s::timestamptz, %(evidence)s::text, %(event)s::text, %(before)s::text,
            %(state)s::text, %(digest)s::text, %(detail_hash)s::text, journal_hash
        FROM moved
    ),
    detail AS (
        INSERT INTO journal_details (payment_id, sequence, salt, detail)
        SELECT id, %(sequence)s::int, %(salt)s, %(detail)s FROM moved
    ),
    gone AS (
        DELETE FROM commands WHERE payment_id = (SELECT id FROM moved)
            AND (kind = ANY (%(obsolete)s::text[])
                 OR (id = %(done_id)s::bigint AND due_at = %(done_due_at)s::timestamptz))
            AND NOT kind = ANY (%(kinds)s::text[])
    ),
    planned AS (
        INSERT INTO commands AS c (payment_id, kind, due_at, ring_at)
        SELECT moved.id, plan.kind, now() + make_interval(secs => plan.after_s),
            now() + make_interval(secs => CASE WHEN plan.after_s > 0 THEN plan.after_s ELSE %(ring_again_s)s END)
        FROM moved, unnest(%(kinds)s::text[], %(waits)s::float8[]) AS plan (kind, after_s)
        WHERE plan.kind <> 'tell_caller' OR %(told)s::text IS NOT NULL
        ON CONFLICT (payment_id, kind) DO UPDATE SET attempts = 0,
            due_at = CASE WHEN c.id = %(done_id)s::bigint AND c.due_at = %(done_due_at)s::timestamptz
                     THEN excluded.due_at ELSE least(c.due_at, excluded.due_at) END,
            ring_at = CASE WHEN c.id = %(done_id)s::bigint AND c.due_at = %(done_due_at)s::timestamptz
                      THEN excluded.ring_at ELSE least(c.ring_at, excluded.ring_at) END
        RETURNING id, kind, due_at
    ),
    told AS (
        INSERT INTO tellings (payment_id, merchant_account, sequence, type, at, url, data)
        SELECT id, merchant_account, %(sequence)s::int, %(told)s::text, %(at)s::timestamptz, callback_url,
            %(told_data)s::json
        FROM moved WHERE %(told)s::text IS NOT NULL
    ),
    alarmed AS (
        INSERT INTO alarms (payment_id, name, sequence)
        SELECT id, %(alarm)s::text, %(sequence)s::int FROM moved WHERE %(alarm)s::text IS NOT NULL
        UNION ALL
        SELECT s.id, %(alarm)s::text, NULL FROM moved JOIN payments s USING (merchant_account, reference)
        WHERE %(alarm)s::text = 'late_approval' AND s.id <> moved.id
    ),
    woken AS (
        UPDATE commands SET due_at = now(), ring_at = now() + make_interval(secs => %(ring_again_s)s)
        WHERE %(frees)s AND kind = 'send' AND payment_id = (
            SELECT q.id FROM payments q, moved WHERE q.poi_id = moved.poi_id AND q.state = 'pending'
            AND q.sent_at IS NULL AND q.number > moved.number ORDER BY q.number LIMIT 1 FOR NO KEY UPDATE OF q)
        RETURNING id, kind, payment_id
    )
SELECT planned.id AS command_id, planned.kind, moved.id AS payment_id, moved.reference, moved.poi_id, moved.transport
FROM moved LEFT JOIN planned ON planned.due_at <= now()
UNION ALL
SELECT woken.id, kind, q.id, q.reference, q.poi_id, q.transport FROM woken JOIN payments q ON q.id = payment_id
""")

COUNT_REPEAT: Final = """
WITH counted AS (
    INSERT INTO journal_repeats (payment_id, digest) VALUES (%(id)s, %(digest)s)
    ON CONFLICT (payment_id, digest) DO UPDATE SET times = journal_repeats.times + 1, last_at = now()
)
DELETE FROM commands WHERE id = %(done_id)s AND due_at = %(done_due_at)s
"""

#: Ring what is due. Moving ``ring_at`` on in the statement that selects keeps two sweeps from ringing twice.
RING_DUE: Final = """
UPDATE commands c SET ring_at = now() + make_interval(secs => %(ring_again_s)s)
FROM (SELECT id, payment_id, refund_id FROM commands WHERE ring_at <= now() ORDER BY ring_at LIMIT %(limit)s
      FOR UPDATE SKIP LOCKED) AS due
LEFT JOIN payments p ON p.id = due.payment_id LEFT JOIN refunds r ON r.id = due.refund_id
WHERE c.id = due.id
RETURNING c.id AS command_id, c.kind, coalesce(p.id, r.payment_id) AS payment_id,
    coalesce(p.reference, r.reference, '') AS reference, coalesce(p.poi_id, r.poi_id, '') AS poi_id,
    coalesce(p.transport, r.transport, 'async') AS transport
"""

#: A command whose performing failed: again later, doubling, and never lost.
PUT_OFF: Final = """
UPDATE commands SET attempts = attempts + 1,
    ring_at = now() + make_interval(secs => least(600, %(retry_s)s * power(2, least(attempts, 10))))
WHERE id = %(command_id)s RETURNING attempts, payment_id
"""

RAISE_ALARM: Final = """
INSERT INTO alarms (payment_id, refund_id, name)
SELECT payment_id, refund_id, %(name)s FROM commands WHERE id = %(command_id)s
"""

#: A message about a payment that could not be processed also alarms. Each is counted, though the same comes again.
KEEP_STRAY: Final = """
WITH alarmed AS (
    INSERT INTO alarms (payment_id, name) SELECT %(payment_id)s::uuid, 'defect' WHERE %(payment_id)s::uuid IS NOT NULL
), counted AS (
    INSERT INTO tally_steps (name, labels) VALUES ('inbox_rejected', ARRAY[%(why)s::text])
)
INSERT INTO strays (digest, why, poi_id, sale_id, service_id)
VALUES (%(digest)s, %(why)s, %(poi_id)s, %(sale_id)s, %(service_id)s)
ON CONFLICT (digest) DO UPDATE SET times = strays.times + 1, last_at = now()
"""

TAG_KEYS: Final = "SELECT key FROM tag_keys WHERE dropped_at IS NULL ORDER BY id DESC"

#: A refusal, and the telling of it where there is a URL: it has no payment, so its command names the telling itself.
KEEP_REJECTION: Final = """
WITH kept AS (
        INSERT INTO rejections (merchant_account, idempotency_key, reference, problem, field, detail, payment_id)
        VALUES (%(merchant_account)s, %(idempotency_key)s, %(reference)s, %(problem)s, %(field)s, %(detail)s,
            %(payment_id)s)
        RETURNING *
    ),
    told AS (
        INSERT INTO tellings (merchant_account, type, at, url, data)
        SELECT merchant_account, 'payment.rejected', at, %(callback_url)s::text, json_build_object(
            'at', to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
            'idempotency_key', idempotency_key, 'reference', reference, 'problem', problem, 'field', field,
            'detail', detail, 'payment_id', payment_id, 'merchant_account', merchant_account)
        FROM kept WHERE %(callback_url)s::text IS NOT NULL
        RETURNING id
    ),
    planned AS (
        INSERT INTO commands (telling_id, kind, due_at, ring_at)
        SELECT id, 'tell_caller', now(), now() + make_interval(secs => %(ring_again_s)s) FROM told
        RETURNING id, kind
    )
SELECT kept.*, planned.id AS command_id, planned.kind, '' AS poi_id, 'async' AS transport
FROM kept LEFT JOIN planned ON true
"""
