"""The SQL of refunds, by the rules of ``statements``: row, journal and commands in one statement, times the server's.

What two refunds of one payment can race for is settled by the payment's row, which whoever accepts one locks first.
"""

from typing import Final

from orchestrator.store.statements import LINE_HASH

LOCK_PAYMENT: Final = "SELECT id FROM payments WHERE id = %(payment_id)s FOR NO KEY UPDATE"

_FIRST_HASH: Final = LINE_HASH.format(
    previous="''",
    payment_id="%(id)s",
    sequence="1",
    at="now()",
    evidence="'refund_accepted'",
    event="'accepted'",
    before="NULL::text",
    after="'pending'",
    digest="NULL::text",
    detail_hash="%(detail_hash)s::text",
)

ACCEPT: Final = f"""
WITH same AS (
        SELECT id, fingerprint FROM refunds
        WHERE merchant_account = %(merchant_account)s AND idempotency_key = %(idempotency_key)s
    ),
    terminal AS (
        SELECT poi_id, transport FROM terminals
        WHERE poi_id = %(poi_id)s AND merchant_account = %(merchant_account)s AND removed_at IS NULL
    ),
    payment AS (
        SELECT p.id, p.currency, p.callback_url, p.authorised_minor - p.refunded_minor - coalesce(
            (SELECT sum(amount_minor) FROM refunds WHERE payment_id = p.id AND outcome IS NULL), 0) AS left_minor
        FROM payments p WHERE p.id = %(payment_id)s::uuid AND p.authorised_minor IS NOT NULL
    ),
    refused AS (
        SELECT CASE
            WHEN EXISTS (SELECT 1 FROM same) THEN 'same'
            WHEN %(payment_id)s::uuid IS NOT NULL AND NOT EXISTS (SELECT 1 FROM payment) THEN 'not-charged'
            WHEN EXISTS (SELECT 1 FROM payment WHERE currency <> %(currency)s) THEN 'other-currency'
            WHEN EXISTS (SELECT 1 FROM payment WHERE left_minor < %(amount_minor)s) THEN 'refund-exceeds-payment'
            WHEN NOT EXISTS (SELECT 1 FROM terminal) THEN 'unknown-terminal'
        END AS why
    ),
    accepted AS (
        INSERT INTO refunds (id, payment_id, merchant_account, idempotency_key, fingerprint, reference, poi_id, sale_id,
            service_id, transport, currency, amount_minor, send_by, callback_url, asked_by, needs_approval, reason,
            trace, journal_hash)
        SELECT %(id)s, %(payment_id)s::uuid, %(merchant_account)s, %(idempotency_key)s, %(fingerprint)s, %(reference)s,
            terminal.poi_id, %(sale_id)s, %(service_id)s, terminal.transport, %(currency)s, %(amount_minor)s,
            now() + make_interval(secs => %(send_by_s)s), coalesce(payment.callback_url, %(callback_url)s),
            %(asked_by)s, %(needs_approval)s, CASE WHEN %(needs_approval)s THEN 'pending_approval' END, %(trace)s,
            {_FIRST_HASH}
        FROM terminal CROSS JOIN refused LEFT JOIN payment ON true WHERE refused.why IS NULL
        RETURNING *
    ),
    line AS (
        INSERT INTO refund_journal (refund_id, sequence, at, evidence, event, before, after, detail_hash, hash)
        SELECT id, 1, now(), 'refund_accepted', 'accepted', NULL, 'pending', %(detail_hash)s, journal_hash FROM accepted
    ),
    detail AS (
        INSERT INTO refund_journal_details (refund_id, sequence, salt, detail)
        SELECT id, 1, %(salt)s, %(detail)s FROM accepted
    ),
    planned AS (
        INSERT INTO commands (refund_id, kind, due_at, ring_at)
        SELECT id, 'send_refund', now(), now() + make_interval(secs => %(ring_again_s)s) FROM accepted
        WHERE NOT needs_approval
        UNION ALL SELECT id, 'expect_refund', send_by, send_by FROM accepted
        RETURNING id, kind
    )
SELECT (SELECT why FROM refused) AS refused, (SELECT id FROM same) AS same_id,
       (SELECT fingerprint FROM same) AS same_fingerprint, (SELECT left_minor FROM payment) AS left_minor,
       (SELECT id FROM planned WHERE kind = 'send_refund') AS command_id, accepted.*
FROM (SELECT 1) AS one LEFT JOIN accepted ON true
"""

#: The line of a payment ``p`` in which its terminal named what a refund has to name.
TOLD_BY_TERMINAL: Final = """
    SELECT detail FROM journal JOIN journal_details USING (payment_id, sequence)
    WHERE payment_id = p.id AND evidence = 'result_reported' AND detail->>'authentic' = 'true'
        AND detail->>'result' IN ('Success', 'Partial') AND detail->>'poi_transaction_id' IS NOT NULL
        AND coalesce(detail->>'psp_reference' = p.psp_reference, true)
    ORDER BY sequence DESC LIMIT 1"""

#: What the request names of the payment that it pays back: from its result, or from the journal where the result that
#: told it concluded nothing any more. ``whole`` says that the refund is all that was ever to be paid back.
ORIGINAL: Final = f"""
SELECT coalesce(p.result->>'poi_transaction_id', d.detail->>'poi_transaction_id') AS poi_transaction_id,
    coalesce(p.result->>'poi_transaction_at', d.detail->>'poi_transaction_at') AS poi_transaction_at,
    p.refunded_minor = 0 AND p.authorised_minor = f.amount_minor AS whole
FROM refunds f JOIN payments p ON p.id = f.payment_id LEFT JOIN LATERAL ({TOLD_BY_TERMINAL}) AS d ON true
WHERE f.id = %(id)s
"""

_CLAIM_HASH: Final = LINE_HASH.format(
    previous="f.journal_hash",
    payment_id="f.id",
    sequence="f.sequence + 1",
    at="now()",
    evidence="'send_started'",
    event="'send_started'",
    before="'pending'",
    after="'pending'",
    digest="NULL::text",
    detail_hash="%(detail_hash)s::text",
)

#: Of this command, and still to be sent.
_TO_SEND: Final = """
f.id = (SELECT refund_id FROM commands WHERE id = %(command_id)s AND kind = 'send_refund')
    AND f.state = 'pending' AND f.reason IS NULL AND f.sent_at IS NULL AND f.send_by > now()
"""

#: No payment runs at the terminal, waits for it, or may still be running there for all we know.
_TERMINAL_IS_FREE: Final = """
NOT EXISTS (SELECT 1 FROM payments h WHERE h.holds_terminal = f.poi_id)
    AND NOT EXISTS (SELECT 1 FROM payments q WHERE q.poi_id = f.poi_id AND q.state = 'pending' AND q.sent_at IS NULL)
    AND NOT EXISTS (SELECT 1 FROM payments u WHERE u.poi_id = f.poi_id AND u.state = 'unknown'
        AND u.reason = 'no_answer' AND NOT u.asked_since_unknown
        AND EXISTS (SELECT 1 FROM commands k WHERE k.payment_id = u.id AND k.kind = 'check_status'))
"""

#: An unreferenced refund prompts a shopper, so it has its terminal for itself. First it takes the terminal, for all to
#: see, and only then claims, if no payment is there. A payment's claim that began before it could see that is in the
#: second look: as the holder, or still in the queue.
TAKE_TERMINAL: Final = f"""
UPDATE refunds f SET holds_terminal = f.poi_id WHERE {_TO_SEND} AND {_TERMINAL_IS_FREE} AND f.payment_id IS NULL
"""

#: What was taken and not used: the payment that waits may start.
_WAKE: Final = """
    UPDATE commands SET due_at = now(), ring_at = now() + make_interval(secs => %(ring_again_s)s)
    WHERE kind = 'send' AND payment_id = (
        SELECT q.id FROM payments q JOIN freed ON q.poi_id = freed.poi_id
        WHERE q.state = 'pending' AND q.sent_at IS NULL ORDER BY q.number LIMIT 1)
    RETURNING id, kind, payment_id
"""
GIVE_TERMINAL_BACK: Final = f"""
WITH freed AS (
        UPDATE refunds SET holds_terminal = NULL
        WHERE id = (SELECT refund_id FROM commands WHERE id = %(command_id)s) AND sent_at IS NULL
            AND holds_terminal IS NOT NULL
        RETURNING poi_id
    ),
    woken AS ({_WAKE})
SELECT w.id AS command_id, w.kind, q.id AS payment_id, q.reference, q.poi_id, q.transport
FROM woken w JOIN payments q ON q.id = w.payment_id
"""

#: The one-way claim. It fails too when what was paid back without us, since it was accepted, has left too little.
CLAIM: Final = f"""
WITH claimed AS (
        UPDATE refunds f SET sent_at = now(), answer_by = now() + make_interval(secs => %(window_s)s),
            claim_token = %(token)s, sequence = f.sequence + 1, journal_hash = {_CLAIM_HASH}
        FROM terminals t
        WHERE {_TO_SEND} AND t.poi_id = f.poi_id AND t.merchant_account = f.merchant_account AND t.held_at IS NULL
            AND NOT EXISTS (SELECT 1 FROM payments p WHERE p.id = f.payment_id
                AND p.authorised_minor < p.refunded_minor + f.amount_minor)
            AND (f.payment_id IS NOT NULL OR (f.holds_terminal IS NOT NULL AND {_TERMINAL_IS_FREE}))
        RETURNING f.*, t.region, t.cloud_api, t.address, t.store, now() AS read_at
    ),
    line AS (
        INSERT INTO refund_journal (refund_id, sequence, at, evidence, event, before, after, detail_hash, hash)
        SELECT id, sequence, now(), 'send_started', 'send_started', 'pending', 'pending', %(detail_hash)s, journal_hash
        FROM claimed
    ),
    detail AS (
        INSERT INTO refund_journal_details (refund_id, sequence, salt, detail)
        SELECT id, sequence, %(salt)s, '{{}}' FROM claimed
    ),
    gone AS (DELETE FROM commands WHERE refund_id = (SELECT id FROM claimed) AND kind = 'send_refund'),
    planned AS (
        INSERT INTO commands (refund_id, kind, due_at, ring_at)
        SELECT id, 'expect_refund', answer_by, answer_by FROM claimed
        ON CONFLICT (refund_id, kind) DO UPDATE SET due_at = excluded.due_at, ring_at = excluded.ring_at
    )
SELECT * FROM claimed
"""

CLAIMED_WITH: Final = """
SELECT f.*, t.region, t.cloud_api, t.address, t.store, f.sent_at AS read_at
FROM refunds f JOIN terminals t USING (poi_id)
WHERE f.claim_token = %(token)s AND f.sent_at > now() - interval '1 minute' AND f.state = 'pending'
"""

#: A send that may not start yet looks again after as long as it has waited, between these bounds.
PARK: Final = """
UPDATE commands c SET due_at = seen.at, ring_at = seen.at
FROM (SELECT f.id, now() + least(interval '5 minutes', greatest(make_interval(secs => %(look_again_s)s),
    CASE WHEN f.payment_id IS NOT NULL THEN now() - f.created_at END)) AS at FROM refunds f) AS seen
WHERE c.id = %(command_id)s AND c.kind = 'send_refund' AND seen.id = c.refund_id
"""

LOAD: Final = "SELECT *, clock_timestamp() AS read_at FROM refunds WHERE id = %(id)s"

LOAD_FOR_COMMAND: Final = """
SELECT f.*, t.region, t.cloud_api, t.address, t.store, t.reassigned_at, c.kind AS command_kind,
    c.due_at AS command_due_at, clock_timestamp() AS read_at, c.due_at <= now() AS is_due
FROM commands c JOIN refunds f ON f.id = c.refund_id LEFT JOIN terminals t ON t.poi_id = f.poi_id
WHERE c.id = %(command_id)s
"""

_RECORD_HASH: Final = LINE_HASH.format(
    previous="f.journal_hash",
    payment_id="f.id",
    sequence="%(sequence)s::int",
    at="%(at)s::timestamptz",
    evidence="%(evidence)s::text",
    event="%(event)s::text",
    before="%(before)s::text",
    after="%(state)s::text",
    digest="%(digest)s::text",
    detail_hash="%(detail_hash)s::text",
)

#: Row, journal line, commands, telling, alarm, what the payment was paid back in all, and the waking of the payment
#: that waits for the terminal of an unreferenced refund.
RECORD: Final = f"""
WITH moved AS (
        UPDATE refunds f SET state = %(state)s::text, outcome = %(outcome)s, reason = %(reason)s,
            sequence = %(sequence)s::int, concluded_at = %(concluded_at)s, reconciled_at = %(reconciled_at)s,
            psp_reference = %(psp_reference)s,
            approved_by = %(approved_by)s, refused_with = %(refused_with)s, not_found_at = %(not_found_at)s,
            checks = %(checks)s, sentinel = %(sentinel)s, books = %(books)s,
            sent_at = coalesce(f.sent_at, %(sent_at)s::timestamptz),
            answer_by = coalesce(f.answer_by, %(sent_at)s::timestamptz),
            holds_terminal = CASE WHEN %(holds)s::boolean THEN f.holds_terminal END, journal_hash = {_RECORD_HASH}
        WHERE f.id = %(id)s AND f.sequence = %(expected_sequence)s
        RETURNING f.id, f.payment_id, f.poi_id, f.reference, f.transport, f.callback_url, f.journal_hash,
            f.merchant_account
    ),
    line AS (
        INSERT INTO refund_journal (refund_id, sequence, at, evidence, event, before, after, digest, detail_hash, hash)
        SELECT id, %(sequence)s::int, %(at)s::timestamptz, %(evidence)s::text, %(event)s::text,
            %(before)s::text, %(state)s::text, %(digest)s::text, %(detail_hash)s::text, journal_hash
        FROM moved
    ),
    detail AS (
        INSERT INTO refund_journal_details (refund_id, sequence, salt, detail)
        SELECT id, %(sequence)s::int, %(salt)s, %(detail)s FROM moved
    ),
    gone AS (
        DELETE FROM commands WHERE refund_id = (SELECT id FROM moved)
            AND (kind = ANY (%(obsolete)s::text[])
                 OR (id = %(done_id)s::bigint AND due_at = %(done_due_at)s::timestamptz))
            AND NOT kind = ANY (%(kinds)s::text[])
    ),
    planned AS (
        INSERT INTO commands AS c (refund_id, kind, due_at, ring_at)
        SELECT moved.id, plan.kind, now() + make_interval(secs => plan.after_s),
            now() + make_interval(secs => CASE WHEN plan.after_s > 0 THEN plan.after_s ELSE %(ring_again_s)s END)
        FROM moved, unnest(%(kinds)s::text[], %(waits)s::float8[]) AS plan (kind, after_s)
        WHERE plan.kind <> 'tell_caller' OR %(told)s::text IS NOT NULL
        ON CONFLICT (refund_id, kind) DO UPDATE SET attempts = 0,
            due_at = CASE WHEN c.kind = 'expect_refund'
                OR (c.id = %(done_id)s::bigint AND c.due_at = %(done_due_at)s::timestamptz)
                THEN excluded.due_at ELSE least(c.due_at, excluded.due_at) END,
            ring_at = CASE WHEN c.kind = 'expect_refund'
                OR (c.id = %(done_id)s::bigint AND c.due_at = %(done_due_at)s::timestamptz)
                THEN excluded.ring_at ELSE least(c.ring_at, excluded.ring_at) END
        RETURNING id, kind, due_at
    ),
    told AS (
        INSERT INTO tellings (refund_id, merchant_account, sequence, type, at, url, data)
        SELECT id, merchant_account, %(sequence)s::int, %(told)s::text, %(at)s::timestamptz, callback_url,
            %(told_data)s::json
        FROM moved WHERE %(told)s::text IS NOT NULL
    ),
    alarmed AS (
        INSERT INTO alarms (refund_id, name, sequence)
        SELECT id, %(alarm)s::text, %(sequence)s::int FROM moved WHERE %(alarm)s::text IS NOT NULL
    ),
    summed AS (
        UPDATE payments SET refunded_minor = refunded_minor + %(paid_back_minor)s::bigint
        WHERE id = (SELECT payment_id FROM moved) AND %(paid_back_minor)s::bigint <> 0
    ),
    freed AS (SELECT poi_id FROM moved WHERE %(frees)s::boolean),
    woken AS ({_WAKE})
SELECT planned.id AS command_id, planned.kind, moved.payment_id, moved.reference, moved.poi_id, moved.transport
FROM moved LEFT JOIN planned ON planned.due_at <= now()
UNION ALL
SELECT w.id, w.kind, q.id, q.reference, q.poi_id, q.transport FROM woken w JOIN payments q ON q.id = w.payment_id
"""

COUNT_REPEAT: Final = """
WITH counted AS (
    INSERT INTO refund_journal_repeats (refund_id, digest) VALUES (%(id)s, %(digest)s)
    ON CONFLICT (refund_id, digest) DO UPDATE SET times = refund_journal_repeats.times + 1, last_at = now()
)
DELETE FROM commands WHERE id = %(done_id)s AND due_at = %(done_due_at)s
"""

#: Under the payment's lock. The latest effective word about one PSP reference counts: a repetition adds nothing.
MADE_ELSEWHERE: Final = """
WITH old AS (
        SELECT CASE WHEN paid_back THEN amount_minor ELSE 0 END AS minor FROM refunds_elsewhere
        WHERE payment_id = %(payment_id)s AND psp_reference = %(psp_reference)s
    ),
    put AS (
        INSERT INTO refunds_elsewhere AS e (payment_id, psp_reference, amount_minor, paid_back, effective_at)
        VALUES (%(payment_id)s, %(psp_reference)s, %(amount_minor)s, %(paid_back)s, %(effective_at)s)
        ON CONFLICT (payment_id, psp_reference) DO UPDATE SET amount_minor = excluded.amount_minor,
            paid_back = excluded.paid_back, effective_at = coalesce(excluded.effective_at, e.effective_at)
        WHERE coalesce(excluded.effective_at >= e.effective_at, true)
        RETURNING CASE WHEN paid_back THEN amount_minor ELSE 0 END AS minor
    )
UPDATE payments SET refunded_minor = refunded_minor + put.minor - coalesce((SELECT minor FROM old), 0)
FROM put WHERE id = %(payment_id)s
"""

#: Which refunds a books' entry can mean: by the modification's own PSP reference; else by our reference of the refund;
#: else, where the entry names none of ours, the open ones of the payment and the amount.
FIND: Final = """
WITH mine AS (
        SELECT f.id, f.number, f.psp_reference, f.reference, f.currency, f.amount_minor, f.outcome,
            p.psp_reference AS original_psp, p.reference AS original_reference
        FROM refunds f LEFT JOIN payments p ON p.id = f.payment_id
        WHERE f.merchant_account = %(merchant_account)s AND f.id IN (
            SELECT id FROM refunds WHERE psp_reference = %(psp_reference)s::text
            UNION SELECT id FROM refunds
            WHERE merchant_account = %(merchant_account)s AND reference = %(reference)s::text
            UNION SELECT r.id FROM payments o JOIN refunds r ON r.payment_id = o.id
            WHERE o.psp_reference = %(original_psp)s::text)
    ),
    by_psp AS (SELECT id FROM mine WHERE psp_reference = %(psp_reference)s::text),
    fitting AS (
        SELECT * FROM mine WHERE coalesce(original_psp = %(original_psp)s::text, true)
            AND coalesce(psp_reference = %(psp_reference)s::text, true)
            AND (%(currency)s::text IS NULL OR (currency, amount_minor) = (%(currency)s, %(amount_minor)s))
    ),
    by_reference AS (SELECT id FROM fitting WHERE reference = %(reference)s::text),
    by_original AS (
        SELECT id FROM fitting WHERE original_psp = %(original_psp)s::text AND outcome IS NULL
            AND coalesce(%(reference)s::text = original_reference, true) AND %(currency)s::text IS NOT NULL
    )
SELECT id FROM by_psp
UNION ALL SELECT id FROM by_reference WHERE NOT EXISTS (SELECT 1 FROM by_psp)
UNION ALL SELECT id FROM by_original
    WHERE NOT EXISTS (SELECT 1 FROM by_psp) AND NOT EXISTS (SELECT 1 FROM by_reference)
"""

OF_PAYMENT: Final = "SELECT * FROM refunds WHERE payment_id = %(payment_id)s ORDER BY number"

JOURNAL: Final = """
SELECT j.*, d.salt, d.detail FROM refund_journal j LEFT JOIN refund_journal_details d USING (refund_id, sequence)
WHERE j.refund_id = %(id)s AND j.sequence > %(after)s ORDER BY j.sequence LIMIT %(limit)s
"""
