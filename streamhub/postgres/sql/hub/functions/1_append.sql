-- Appending few events in one statement: see streamhub/history/append.py, which says what an append does.

-- The id of the counter-th event of a millisecond, as core/ids.py makes it.
CREATE OR REPLACE FUNCTION streamhub_hub.event_id(ms bigint, counter bigint) RETURNS uuid
LANGUAGE sql IMMUTABLE
AS $$ SELECT (lpad(to_hex(ms), 12, '0') || '7000' || to_hex(counter | '-9223372036854775808'::bigint))::uuid $$;

-- What `reserve` does and gives, with the note for a publisher and NOTIFY in the same round trip. `notice` has %s for the
-- ids of the head, of the first and of the last event.
CREATE OR REPLACE FUNCTION streamhub_hub.reserve_and_tell(
  leader bigint, events bigint, organizations integer[], notice text, journal boolean,
  OUT previous_ms bigint, OUT previous_counter bigint, OUT previous_event_ms bigint, OUT previous_event_counter bigint,
  OUT clock bigint, OUT ms bigint, OUT counter bigint
)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  last uuid;
BEGIN
  SELECT r.* INTO previous_ms, previous_counter, previous_event_ms, previous_event_counter, clock, ms, counter
    FROM streamhub_hub.reserve(leader, events) AS r;
  IF clock IS NULL OR events = 0 THEN
    RETURN;
  END IF;
  last := streamhub_hub.event_id(ms, counter);
  IF journal THEN
    INSERT INTO streamhub_hub.appends (last_id, previous_id, organizations, events)
    VALUES (last, streamhub_hub.event_id(previous_event_ms, previous_event_counter), reserve_and_tell.organizations,
            reserve_and_tell.events);
  END IF;
  PERFORM pg_notify(c.appends, format(notice, streamhub_hub.event_id(previous_ms, previous_counter),
                                      streamhub_hub.event_id(ms, counter - reserve_and_tell.events + 1), last))
     FROM streamhub_hub.channels AS c;
END $$;

-- What `reserve_and_tell` and an INSERT of each event do. `clock` is null, and nothing was done, where another leader has
-- taken over. Ids are known only here, so a frame is its start, its id, `middle`, its id again, and its end. `named` are
-- the organizations once each.
-- `consumed`: whether the same statement, which is a whole transaction, has consumed all that the events are made of; null where
-- it consumes nothing. To undo what it consumed it fails: with SH002 where another leader has taken over, with SH001 if false.
CREATE OR REPLACE FUNCTION streamhub_hub.append_few(
  leader bigint, organizations integer[], tests boolean[], resource_keys bigint[], types text[], resource_types text[],
  resource_ids text[], starts bytea[], middle bytea, ends bytea[], named integer[], notice text, journal boolean,
  consumed boolean,
  OUT previous_ms bigint, OUT previous_counter bigint, OUT previous_event_ms bigint, OUT previous_event_counter bigint,
  OUT clock bigint, OUT ms bigint, OUT counter bigint
)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  few integer := cardinality(organizations);
BEGIN
  SELECT r.* INTO previous_ms, previous_counter, previous_event_ms, previous_event_counter, clock, ms, counter
    FROM streamhub_hub.reserve_and_tell(leader, few, named, notice, journal) AS r;
  IF clock IS NULL THEN
    IF consumed IS NOT NULL THEN
      RAISE 'epoch % of the log has ended', leader USING ERRCODE = 'SH002';
    END IF;
    RETURN;
  END IF;
  IF NOT consumed THEN
    RAISE 'not all rows that an append consumes are there' USING ERRCODE = 'SH001';
  END IF;
  INSERT INTO streamhub_hub.history (organization, id, test, resource_key, type, resource_type, resource_id, frame)
  SELECT e.organization, e.id, e.test, e.resource_key, e.type, e.resource_type, e.resource_id,
         e.start || e.id::text::bytea || middle || e.id::text::bytea || e.rest
    FROM (SELECT *, streamhub_hub.event_id(append_few.ms, append_few.counter - few + n) AS id
            FROM unnest(organizations, tests, resource_keys, types, resource_types, resource_ids, starts, ends)
                 WITH ORDINALITY AS its
                 (organization, test, resource_key, type, resource_type, resource_id, start, rest, n)) AS e;
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA streamhub_hub FROM PUBLIC;
