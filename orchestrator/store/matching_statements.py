"""The SQL of ``matching``: what report lines and payments have in common, and in what they differ."""

from typing import Final

LOCK: Final = "SELECT pg_try_advisory_lock(hashtextextended('reconciliation|' || %(merchant_account)s, 0)) AS taken"
UNLOCK: Final = "SELECT pg_advisory_unlock(hashtextextended('reconciliation|' || %(merchant_account)s, 0))"

#: Whole tables are read here, and sorted: other plans than those of single rows. What is larger than this goes through
#: the disk; helpers in parallel would each take as much again.
FOR_SETS: Final = "SET enable_seqscan = on; SET work_mem = '24MB'; SET max_parallel_workers_per_gather = 0"
FOR_ROWS: Final = "SET enable_seqscan = off; RESET work_mem; RESET max_parallel_workers_per_gather"

CREATE: Final = (
    """
    CREATE TEMP TABLE lines (file int, line int, kind text, type text, entry text, psp text, reference text,
        shown text, modification text, modification_reference text, day date, offset_minutes int, at timestamptz,
        currency text, minor bigint, online boolean)
    """,
    "CREATE TEMP TABLE coverage (begins_at timestamptz, ends_at timestamptz)",
    "CREATE TEMP TABLE ours (id uuid, number bigint, begins_at timestamptz, ends_at timestamptz, covered boolean)",
    "CREATE TEMP TABLE absent (id uuid, number bigint, charged boolean)",
)

STAGE: Final = "COPY lines FROM STDIN"

DAYS: Final = "SELECT min(day) AS first_day, max(day) AS last_day FROM lines"

#: A day on either side is kept: who pays around midnight is booked on either.
TRIM: Final = "DELETE FROM lines WHERE day NOT BETWEEN %(first_day)s::date - 1 AND %(last_day)s::date + 1"

#: Where a day begins and ends follows from the zone of the lines that are nearest to that; UTC without any. On the day
#: on which the clocks change, its first line has the one and its last line the other.
_OFFSET: Final = """
make_interval(mins => coalesce((SELECT offset_minutes FROM lines ORDER BY abs(day - {day}), at {order} LIMIT 1), 0))
"""
BOUNDS: Final = f"""
SELECT (%(first_day)s::date::timestamp - {_OFFSET.format(day="%(first_day)s::date", order="ASC")})
        AT TIME ZONE 'UTC' AS begins_at,
    ((%(last_day)s::date + 1)::timestamp - {_OFFSET.format(day="%(last_day)s::date", order="DESC")})
        AT TIME ZONE 'UTC' AS ends_at
"""

#: The days that reports cover which list every attempt: from the first to the last day of each. Neighbours are one.
COVERAGE: Final = """
INSERT INTO coverage
SELECT min(begins_at), max(ends_at) FROM (
    SELECT begins_at, ends_at, count(*) FILTER (WHERE apart) OVER (ORDER BY begins_at, ends_at) AS island FROM (
        SELECT begins_at, ends_at, coalesce(begins_at > max(ends_at) OVER (
            ORDER BY begins_at, ends_at ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), true) AS apart
        FROM (
            SELECT (min(day)::timestamp - make_interval(mins => (array_agg(offset_minutes ORDER BY at))[1]))
                    AT TIME ZONE 'UTC' AS begins_at,
                ((max(day) + 1)::timestamp - make_interval(mins => (array_agg(offset_minutes ORDER BY at DESC))[1]))
                    AT TIME ZONE 'UTC' AS ends_at
            FROM (SELECT file, day, offset_minutes, min(at) AS at FROM lines
                  WHERE kind IN ('payment accounting', 'received payments')
                  GROUP BY file, day, offset_minutes) AS days
            GROUP BY file
        ) AS files
    ) AS edges
) AS islands GROUP BY island
"""

#: The payments whose turn at the terminal ends in the period, and when the platform can have booked them: ten minutes
#: are longer than any dialogue, and a minute allows for clocks. An id begins with the time of its making, so that only
#: the period's part of the index is read; a day before covers the longest wait for a terminal, and clocks.
OURS: Final = """
INSERT INTO ours
SELECT id, number, begins_at, ends_at,
    EXISTS (SELECT 1 FROM coverage c WHERE c.begins_at <= turn.begins_at AND c.ends_at >= turn.ends_at)
FROM (
    SELECT id, number, coalesce(sent_at, created_at) - interval '1 minute' AS begins_at,
        coalesce(sent_at, created_at) + interval '10 minutes' AS ends_at
    FROM payments
    WHERE merchant_account = %(merchant_account)s
        AND id >= (lpad(to_hex((extract(epoch FROM %(begins_at)s::timestamptz - interval '1 day') * 1000)::bigint),
                   12, '0') || repeat('0', 20))::uuid
        AND id < (lpad(to_hex((extract(epoch FROM %(ends_at)s::timestamptz + interval '1 day') * 1000)::bigint),
                  12, '0') || repeat('0', 20))::uuid
) AS turn
WHERE ends_at >= %(begins_at)s AND ends_at < %(ends_at)s
"""

OPEN_PAYMENTS: Final = """
SELECT p.id FROM ours JOIN payments p ON p.id = ours.id
WHERE (p.state = 'unknown' AND p.reason = 'no_answer') OR (p.state = 'pending' AND p.sent_at IS NOT NULL)
"""

UNANSWERED: Final = """
SELECT count(*) AS n FROM payments
WHERE id = ANY (%(ids)s) AND state IN ('pending', 'unknown') AND (checked_at IS NULL OR checked_at < %(since)s)
"""

LINK: Final = (
    # The latest word for each PSP reference: a capture or a payout only counts where nothing else is said.
    """
    CREATE TEMP TABLE words AS
    SELECT DISTINCT ON (psp) psp, reference, shown, CASE entry WHEN 'settled' THEN 'authorised' ELSE entry END AS entry,
        type, currency, minor, at, file, line, online, day BETWEEN %(first_day)s AND %(last_day)s AS inside
    FROM lines WHERE entry IN ('authorised', 'refused', 'settled')
    ORDER BY psp, entry = 'settled', at DESC, entry DESC, file, line
    """,
    "CREATE INDEX ON words (psp); ANALYZE words",
    "CREATE TEMP TABLE cancelled AS SELECT DISTINCT psp FROM lines WHERE entry = 'cancelled'",
    "CREATE INDEX ON cancelled (psp); ANALYZE cancelled",
    """
    CREATE TEMP TABLE linked AS
    SELECT w.psp, (array_agg(p.id))[1] AS payment_id, min(p.number) AS number
    FROM words w JOIN payments p ON p.psp_reference = w.psp AND p.merchant_account = %(merchant_account)s
    GROUP BY w.psp HAVING count(*) = 1
    """,
    "ANALYZE linked",
    # A refused try of a dialogue has a PSP reference that no terminal told us: by its sale and amount, if one fits.
    """
    INSERT INTO linked
    SELECT w.psp, (array_agg(p.id))[1], min(p.number)
    FROM words w JOIN payments p ON p.merchant_account = %(merchant_account)s AND p.reference = w.reference
        AND p.currency = w.currency AND p.amount_minor = w.minor AND p.psp_reference IS NULL
    WHERE w.entry = 'refused' AND NOT EXISTS (SELECT 1 FROM linked l WHERE l.psp = w.psp)
    GROUP BY w.psp HAVING count(*) = 1
    """,
    # One word for each payment. A cancellation is later than what it cancels, and looked at on its own.
    """
    CREATE TEMP TABLE work AS
    SELECT DISTINCT ON (l.number) l.number, l.payment_id, w.psp, w.entry, w.type, w.currency, w.minor, w.at,
        w.entry = 'refused' AND coalesce(o.covered, false) AND a.reference IS NULL AS covers_day
    FROM linked l JOIN words w ON w.psp = l.psp AND w.inside LEFT JOIN ours o ON o.id = l.payment_id
        LEFT JOIN cancelled c ON c.psp = w.psp
        LEFT JOIN words a ON w.entry = 'refused' AND a.entry = 'authorised' AND a.reference = w.reference
    WHERE c.psp IS NULL OR (w.entry = 'authorised' AND EXISTS (
        SELECT 1 FROM payments p WHERE p.id = l.payment_id AND p.outcome = ANY (%(charged)s)))
    ORDER BY l.number, w.entry, w.at DESC, w.psp
    """,
    "CREATE INDEX ON work (number); ANALYZE work",
    # An accounting report does not name a refund's own PSP reference; whoever does, names the same refund better.
    """
    CREATE TEMP TABLE refunds_by_name AS
    SELECT psp, currency, minor FROM lines
    WHERE entry IN ('refunded', 'refund_failed', 'refund_reversed') AND modification IS NOT NULL
    UNION
    SELECT p.psp_reference, d.theirs #>> '{amount,currency}', (d.theirs #>> '{amount,value}')::bigint
    FROM differences d JOIN payments p ON p.id = d.payment_id
    WHERE d.merchant_account = %(merchant_account)s AND d.kind = 'refund_elsewhere' AND d.psp_reference IS NOT NULL
    """,
    # What happened later, refunds, and charges that name a sale of ours: each only where it can be about something of
    # ours, and once where several reports say the same.
    """
    CREATE TEMP TABLE rest AS
    SELECT row_number() OVER (ORDER BY at, modification IS NULL, file, line) AS number, *
    FROM (
        (SELECT DISTINCT ON (entry, psp, modification, modification_reference, currency, minor, at)
            entry, type, psp, reference, modification, modification_reference, currency, minor, at, file, line
        FROM lines l
        WHERE entry IN ('cancelled', 'refund_received', 'refunded', 'refund_failed', 'refund_reversed', 'expired',
                'capture_failed', 'chargeback') AND day BETWEEN %(first_day)s AND %(last_day)s
            AND NOT (modification IS NULL AND entry IN ('refunded', 'refund_failed', 'refund_reversed') AND EXISTS (
                SELECT 1 FROM refunds_by_name r WHERE (r.psp, r.currency, r.minor) = (l.psp, l.currency, l.minor)))
            AND (EXISTS (SELECT 1 FROM payments p WHERE p.psp_reference = l.psp
                    AND p.merchant_account = %(merchant_account)s)
                OR EXISTS (SELECT 1 FROM payments p WHERE p.merchant_account = %(merchant_account)s
                    AND p.reference = l.reference)
                OR EXISTS (SELECT 1 FROM refunds r WHERE r.merchant_account = %(merchant_account)s
                    AND r.reference IN (l.reference, l.modification_reference)))
        ORDER BY entry, psp, modification, modification_reference, currency, minor, at, file, line)
        UNION ALL
        SELECT w.entry, w.type, w.psp, w.reference, NULL, NULL, w.currency, w.minor, w.at, w.file, w.line
        FROM words w LEFT JOIN linked k ON k.psp = w.psp
        WHERE w.entry = 'authorised' AND w.inside AND k.psp IS NULL
            AND (EXISTS (SELECT 1 FROM payments p WHERE p.psp_reference = w.psp
                    AND p.merchant_account = %(merchant_account)s)
                OR EXISTS (SELECT 1 FROM payments p WHERE p.merchant_account = %(merchant_account)s
                    AND p.reference = w.reference))
    ) AS said
    """,
    "CREATE INDEX ON rest (number); ANALYZE rest",
)

WORDS: Final = "SELECT * FROM work WHERE number > %(after)s ORDER BY number LIMIT %(limit)s"
REST: Final = "SELECT * FROM rest WHERE number > %(after)s ORDER BY number LIMIT %(limit)s"

#: Payments of covered days for which no line names a charge: by their PSP reference, and by sale and amount, unless the
#: line is another payment's. One that is said to be refused or cancelled is not missing.
ABSENT: Final = (
    """
    INSERT INTO absent
    SELECT p.id, p.number, p.outcome = ANY (%(charged)s)
    FROM ours JOIN payments p ON p.id = ours.id
    WHERE ours.covered AND NOT p.provisional
        AND (p.outcome = ANY (%(charged)s) OR (p.state = 'confirmed' AND p.outcome IS NOT NULL))
        AND NOT EXISTS (SELECT 1 FROM lines l WHERE l.psp = p.psp_reference AND (l.entry IN ('authorised', 'settled')
            OR (p.outcome = ANY (%(charged)s) AND l.entry IN ('refused', 'cancelled'))))
    """,
    "CREATE INDEX ON absent (number); ANALYZE absent",
    """
    DELETE FROM absent a USING payments p, words w
    WHERE p.id = a.id AND w.entry = 'authorised' AND w.reference = p.reference AND w.currency = p.currency
        AND w.minor IN (p.amount_minor, p.authorised_minor)
        AND NOT EXISTS (SELECT 1 FROM payments o WHERE o.psp_reference = w.psp AND o.id <> p.id
            AND o.merchant_account = %(merchant_account)s)
    """,
    # What an earlier run found in a report is there, whatever this one was given to read; so may be what was expunged.
    """
    DELETE FROM absent a USING journal j LEFT JOIN journal_details d USING (payment_id, sequence)
    WHERE a.charged AND payment_id = a.id AND j.evidence = 'books_reported' AND (d.detail IS NULL
        OR (d.detail ->> 'entry' = 'authorised' AND d.detail ->> 'source' LIKE 'report:%%'))
    """,
)

SILENT: Final = """
SELECT id, number FROM absent WHERE NOT charged AND number > %(after)s ORDER BY number LIMIT %(limit)s
"""

_OURS: Final = """
jsonb_build_object('state', coalesce(p.outcome, p.state),
    'amount', jsonb_build_object('currency', p.currency, 'value', coalesce(p.authorised_minor, p.amount_minor))) AS ours
"""
_THEIRS: Final = """
jsonb_build_object('state', {line}.type,
    'amount', jsonb_build_object('currency', {line}.currency, 'value', {line}.minor)) AS theirs
"""
_SOURCE: Final = "left('report:' || (%(names)s::text[])[{line}.file + 1] || ':' || {line}.line, 200) AS source"
_ABOUT: Final = "NULL::uuid AS refund_id, %(merchant_account)s::text AS merchant_account"

#: What sets show once everything was recorded: words of the books that changed a payment are no difference any more.
FOUND: Final = (
    # Another amount or currency than ours, whichever report says so.
    f"""
    SELECT DISTINCT ON (p.id, l.currency = p.currency)
        CASE WHEN l.currency = p.currency THEN 'amount_differs' ELSE 'currency_differs' END AS kind,
        p.id AS payment_id, l.psp AS psp_reference, p.reference, {_OURS},
        {_THEIRS.format(line="l")}, {_SOURCE.format(line="l")}, {_ABOUT}
    FROM lines l JOIN linked k ON k.psp = l.psp JOIN payments p ON p.id = k.payment_id
    WHERE l.entry IN ('authorised', 'settled') AND p.outcome = ANY (%(charged)s)
        AND (l.currency <> p.currency OR l.minor <> p.authorised_minor) AND p.psp_reference = l.psp
        AND l.day BETWEEN %(first_day)s AND %(last_day)s
    ORDER BY p.id, l.currency = p.currency, l.at, l.file, l.line
    """,
    # The same of what was refused, and is of one payment that can be meant; a tip that was chosen may be on top.
    f"""
    SELECT DISTINCT ON (p.id, w.currency = p.currency)
        CASE WHEN w.currency = p.currency THEN 'amount_differs' ELSE 'currency_differs' END AS kind,
        p.id AS payment_id, w.psp AS psp_reference, p.reference, {_OURS},
        {_THEIRS.format(line="w")}, {_SOURCE.format(line="w")}, {_ABOUT}
    FROM words w JOIN payments p ON p.merchant_account = %(merchant_account)s AND p.reference = w.reference
    WHERE w.entry = 'refused' AND w.inside AND (w.currency, w.minor) <> (p.currency, p.amount_minor)
        AND p.outcome <> ALL (%(charged)s) AND NOT p.options @> '{{"tender_options": ["AskGratuity"]}}'
        AND (p.psp_reference = w.psp OR (p.psp_reference IS NULL AND NOT EXISTS (
            SELECT 1 FROM payments o WHERE o.merchant_account = p.merchant_account AND o.reference = p.reference
                AND o.id <> p.id)))
    ORDER BY p.id, w.currency = p.currency, w.at, w.psp
    """,
    # Charged on one side alone, or not known any more for that reason.
    f"""
    SELECT 'state_differs' AS kind, p.id AS payment_id, w.psp AS psp_reference, p.reference,
        {_OURS},
        {_THEIRS.format(line="w")}, {_SOURCE.format(line="w")}, {_ABOUT}
    FROM words w JOIN linked k ON k.psp = w.psp JOIN payments p ON p.id = k.payment_id
    WHERE w.inside AND (
        (p.state = 'unknown' AND p.reason IN ('contradiction', 'never_sent')
            AND (p.psp_reference = w.psp OR p.books ->> 'psp_reference' = w.psp))
        OR (w.entry = 'authorised' AND p.outcome <> ALL (%(charged)s)
            AND NOT EXISTS (SELECT 1 FROM cancelled c WHERE c.psp = w.psp))
        OR (w.entry = 'refused' AND p.outcome = ANY (%(charged)s) AND p.psp_reference = w.psp))
    """,
    # Twice in one report.
    f"""
    SELECT DISTINCT ON (d.psp) 'duplicate_line' AS kind, k.payment_id, d.psp AS psp_reference,
        CASE WHEN k.psp IS NULL THEN coalesce(d.shown, d.reference) ELSE d.reference END AS reference,
        NULL::jsonb AS ours, {_THEIRS.format(line="d")}, {_SOURCE.format(line="d")}, {_ABOUT}
    FROM (
        SELECT file, type, psp, reference, shown, modification, modification_reference, currency, minor, at,
            max(line) AS line
        FROM lines WHERE psp <> '' AND day BETWEEN %(first_day)s AND %(last_day)s
        GROUP BY file, type, psp, reference, shown, modification, modification_reference, currency, minor, at
        HAVING count(*) > 1
    ) AS d LEFT JOIN linked k ON k.psp = d.psp
    ORDER BY d.psp, d.at, d.file, d.line
    """,
    # A charge that names nothing of ours. Where the report tells terminals, one without is an online payment.
    f"""
    SELECT 'orphan' AS kind, NULL::uuid AS payment_id, w.psp AS psp_reference,
        coalesce(w.shown, w.reference) AS reference, NULL::jsonb AS ours,
        {_THEIRS.format(line="w")}, {_SOURCE.format(line="w")}, {_ABOUT}
    FROM words w
    WHERE w.entry = 'authorised' AND w.inside AND w.online IS NOT TRUE
        AND NOT EXISTS (SELECT 1 FROM payments p WHERE p.psp_reference = w.psp
            AND p.merchant_account = %(merchant_account)s)
        AND NOT EXISTS (SELECT 1 FROM payments p WHERE p.merchant_account = %(merchant_account)s
            AND p.reference = w.reference)
        AND NOT EXISTS (SELECT 1 FROM refunds r WHERE r.merchant_account = %(merchant_account)s
            AND r.reference = w.reference)
    """,
    # A charge of ours on a covered day that no report lists.
    f"""
    SELECT 'missing_there' AS kind, p.id AS payment_id, p.psp_reference, p.reference, {_OURS}, NULL::jsonb AS theirs,
        'report:' || %(first_day)s::date || '/' || %(last_day)s::date AS source, {_ABOUT}
    FROM absent a JOIN payments p ON p.id = a.id WHERE a.charged
    """,
)

#: A charge that a report has now was late, not missing.
CLOSE_FOUND_AGAIN: Final = """
UPDATE differences d SET state = 'closed', changed_at = now(), changed_by = 'reconciliation',
    note = 'a later report has it', history = d.history || jsonb_build_array(jsonb_build_object(
        'at', now(), 'state', 'closed', 'by', 'reconciliation', 'note', 'a later report has it'))
FROM payments p JOIN words w ON w.psp = p.psp_reference
WHERE d.merchant_account = %(merchant_account)s AND d.kind = 'missing_there' AND d.state <> 'closed'
    AND p.id = d.payment_id AND w.entry = 'authorised'
"""

#: A refund that was made elsewhere and was first seen without its own PSP reference is one that is known by it now.
CLOSE_KNOWN_BY_NAME: Final = """
UPDATE differences d SET state = 'closed', changed_at = now(), changed_by = 'reconciliation',
    note = 'known by its own PSP reference now', history = d.history || jsonb_build_array(jsonb_build_object(
        'at', now(), 'state', 'closed', 'by', 'reconciliation', 'note', 'known by its own PSP reference now'))
FROM differences o
WHERE d.merchant_account = %(merchant_account)s AND d.kind = 'refund_elsewhere' AND d.state <> 'closed'
    AND d.psp_reference IS NULL AND o.kind = d.kind AND o.payment_id = d.payment_id AND o.psp_reference IS NOT NULL
    AND o.theirs -> 'amount' = d.theirs -> 'amount'
"""

#: Stored webhooks that were not processed, or were not recorded and may be of a payment of the period after all.
LEFT_WEBHOOKS: Final = """
SELECT number FROM webhooks WHERE merchant_account = %(merchant_account)s AND became IS NULL
UNION
SELECT w.number FROM ours JOIN payments p ON p.id = ours.id JOIN webhooks w ON w.psp_reference = p.psp_reference
WHERE w.merchant_account = %(merchant_account)s AND w.became IN ('difference', 'ignored')
ORDER BY number
"""

KEEP_FOUND: Final = """
INSERT INTO reconciliation_found (run_id, difference_id)
SELECT %(run_id)s, id FROM (
    SELECT d.id FROM differences d JOIN ours ON ours.id = d.payment_id
    WHERE d.merchant_account = %(merchant_account)s
    UNION
    SELECT d.id FROM lines l JOIN differences d ON d.psp_reference = l.psp
    WHERE d.merchant_account = %(merchant_account)s AND l.day BETWEEN %(first_day)s AND %(last_day)s
    UNION
    SELECT d.id FROM lines l JOIN differences d ON d.psp_reference = l.modification
    WHERE d.merchant_account = %(merchant_account)s AND l.day BETWEEN %(first_day)s AND %(last_day)s
) AS found
ON CONFLICT DO NOTHING
"""

TOTALS: Final = """
SELECT p.currency, p.state, p.outcome, p.reason, p.provisional, ours.covered, count(*) AS payments,
    sum(coalesce(p.authorised_minor, p.amount_minor))::bigint AS sum_minor
FROM ours JOIN payments p ON p.id = ours.id
GROUP BY p.currency, p.state, p.outcome, p.reason, p.provisional, ours.covered
ORDER BY p.currency, p.state, p.outcome
"""

OTHERS: Final = "SELECT type, count(*) AS lines FROM lines WHERE entry = 'other' GROUP BY type ORDER BY type LIMIT 50"
