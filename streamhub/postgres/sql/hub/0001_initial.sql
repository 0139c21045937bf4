-- The hub's own schema: who the organizations are, the one order (log_head), history, and who leads or serves what.
-- Nothing here is readable by PUBLIC.

REVOKE ALL ON SCHEMA streamhub_hub FROM PUBLIC;

-- Which hub this is. The sources whose outboxes it consumes hold this id (streamhub.relay_mark).
CREATE TABLE streamhub_hub.identity (
  only_row      boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  id            uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO streamhub_hub.identity DEFAULT VALUES;

-- Tenants. `key` is the short name that history is keyed by; `id` is the one that tokens and captured rows carry.
CREATE TABLE streamhub_hub.organizations (
  key           integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id            text COLLATE "C" NOT NULL UNIQUE,
  slug          text COLLATE "C" NOT NULL UNIQUE
                CHECK (slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
  slug_is_made  boolean NOT NULL,       -- made from the id, so a token's own slug may replace it
  enterprise    boolean NOT NULL,
  created_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- API keys. `id` is the part of a key that is no secret; `hash` is the SHA-256 of the whole key, whose secret part has 256
-- bits. A change made here counts within about a second, in open streams too.
CREATE TABLE streamhub_hub.api_keys (
  id            text COLLATE "C" PRIMARY KEY,
  organization  integer NOT NULL REFERENCES streamhub_hub.organizations ON DELETE CASCADE,
  hash          bytea NOT NULL CHECK (octet_length(hash) = 32),
  scopes        text[] NOT NULL,
  test          boolean NOT NULL,
  created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at    timestamptz,            -- null: never
  revoked_at    timestamptz,
  last_used_at  timestamptz             -- to the hour, so that a key in use is hardly ever written
);
CREATE INDEX api_keys_organization ON streamhub_hub.api_keys (organization);

-- Any role of the database may LISTEN and NOTIFY, on any channel whose name it knows. A notification of an append that is
-- not ours would have gateways pass over events, so the hub's role alone knows what the channels are called.
CREATE TABLE streamhub_hub.channels (
  only_row       boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  appends        text NOT NULL DEFAULT 'streamhub_append_' || replace(gen_random_uuid()::text, '-', ''),
  organizations  text NOT NULL DEFAULT 'streamhub_organizations_' || replace(gen_random_uuid()::text, '-', ''),
  webhooks       text NOT NULL DEFAULT 'streamhub_webhooks_' || replace(gen_random_uuid()::text, '-', '')
);
INSERT INTO streamhub_hub.channels DEFAULT VALUES;

-- A cache of the registry listens to this.
CREATE FUNCTION streamhub_hub.organization_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM pg_notify(c.organizations, coalesce(NEW.id, OLD.id)) FROM streamhub_hub.channels AS c;
  RETURN NULL;
END $$;
CREATE TRIGGER organization_changed AFTER INSERT OR UPDATE OR DELETE ON streamhub_hub.organizations
FOR EACH ROW EXECUTE FUNCTION streamhub_hub.organization_changed();

-- A lease lives for some seconds from its last renewal. One that ends later than any lease can was dated by a clock that
-- was ahead, on a server from which this one took over: it has expired. The margin is for a clock set back a little.
CREATE FUNCTION streamhub_hub.lease_holds(expires_at timestamptz) RETURNS boolean
LANGUAGE sql VOLATILE
RETURN expires_at > clock_timestamp() AND expires_at < clock_timestamp() + interval '10 seconds';

-- The one order. What adds to it locks this row first; a leader of an older epoch no longer finds it. A lock makes no
-- version of the row, so however many appends there are, and whatever snapshot is held, it is found at once.
CREATE TABLE streamhub_hub.log_epoch (
  only_row      boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  epoch         bigint NOT NULL DEFAULT 0
);
INSERT INTO streamhub_hub.log_epoch DEFAULT VALUES;

-- How far the order is: the newest row. Rows are only added, each beyond the ones before, and found from the end of the
-- key, so that no row that is old or dead is ever in the way; the relay deletes the old ones.
CREATE TABLE streamhub_hub.log_heads (
  last_ms        bigint NOT NULL,       -- the id of an event is (milliseconds, counter) as a UUIDv7
  last_counter   bigint NOT NULL,
  event_ms       bigint NOT NULL,       -- the last id that an event was given: closing a window moves the head alone
  event_counter  bigint NOT NULL,
  PRIMARY KEY (last_ms, last_counter)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
INSERT INTO streamhub_hub.log_heads VALUES (0, 0, 0, 0);

CREATE VIEW streamhub_hub.log_head AS
SELECT e.epoch, h.last_ms, h.last_counter, h.event_ms, h.event_counter
  FROM streamhub_hub.log_epoch AS e
 CROSS JOIN (SELECT * FROM streamhub_hub.log_heads ORDER BY last_ms DESC, last_counter DESC LIMIT 1) AS h
 WHERE e.only_row;

-- Lock the order, for the leader of this epoch or (null) for any process, and read its head. All null: another one leads.
-- VOLATILE, so that under READ COMMITTED the head is read after the lock was waited for; another isolation would give
-- the head of before.
CREATE FUNCTION streamhub_hub.lock_log(
  leader bigint, OUT head_ms bigint, OUT head_counter bigint, OUT event_ms bigint, OUT event_counter bigint,
  OUT clock bigint
)
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE 'history is appended to under READ COMMITTED, not %', current_setting('transaction_isolation');
  END IF;
  PERFORM FROM streamhub_hub.log_epoch AS e WHERE e.only_row AND (e.epoch = leader OR leader IS NULL)
    FOR NO KEY UPDATE;
  IF FOUND THEN
    SELECT h.last_ms, h.last_counter, h.event_ms, h.event_counter
      INTO STRICT head_ms, head_counter, event_ms, event_counter
      FROM streamhub_hub.log_heads AS h ORDER BY h.last_ms DESC, h.last_counter DESC LIMIT 1;
    clock := floor(extract(epoch FROM clock_timestamp()) * 1000);
  END IF;
END $$;

-- Give ids to so many events: those up to (ms, counter). `clock` is null where another leader has taken over.
CREATE FUNCTION streamhub_hub.reserve(
  leader bigint, events bigint,
  OUT previous_ms bigint, OUT previous_counter bigint, OUT previous_event_ms bigint, OUT previous_event_counter bigint,
  OUT clock bigint, OUT ms bigint, OUT counter bigint
)
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  SELECT * INTO previous_ms, previous_counter, previous_event_ms, previous_event_counter, clock
    FROM streamhub_hub.lock_log(leader);
  IF clock > previous_ms THEN
    ms := clock;
    counter := events - 1;
  ELSE
    ms := previous_ms;
    counter := previous_counter + events;
  END IF;
  IF clock IS NOT NULL AND events > 0 THEN
    INSERT INTO streamhub_hub.log_heads VALUES (ms, counter, ms, counter);
  END IF;
END $$;

-- Put every later id behind this moment, unless the clock has not got there; whatever is in flight is waited for.
CREATE FUNCTION streamhub_hub.close_window(to_ms bigint) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  head record;
BEGIN
  SELECT * INTO head FROM streamhub_hub.lock_log(NULL);
  IF head.head_ms < to_ms AND to_ms <= head.clock THEN
    INSERT INTO streamhub_hub.log_heads VALUES (to_ms, 0, head.event_ms, head.event_counter);
  END IF;
END $$;

-- Who may lead the relay. Apart from log_epoch, so that a renewal never waits for an append. The holder's connections
-- carry its name (application_name 'streamhub relay <holder>'): a new leader ends them.
CREATE TABLE streamhub_hub.relay_lease (
  only_row       boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  epoch          bigint NOT NULL DEFAULT 0,
  holder         text,
  expires_at     timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 10);
INSERT INTO streamhub_hub.relay_lease DEFAULT VALUES;

-- History, the one truth. `frame` is the event as the live stream and a replay send it, byte for byte:
--   event: <event>\nid: <id>\ndata: <json>\n\n
-- resource_key is a 64-bit hash of (organization key, resource type, resource id): a narrow index to a resource's history.
CREATE TABLE streamhub_hub.history (
  organization   integer NOT NULL,
  id             uuid NOT NULL,
  test           boolean NOT NULL,
  resource_key   bigint NOT NULL,
  type           text COLLATE "C" NOT NULL,
  resource_type  text COLLATE "C",
  resource_id    text COLLATE "C",
  frame          bytea NOT NULL,
  PRIMARY KEY (organization, id)
) PARTITION BY RANGE (id);
CREATE INDEX history_resource ON streamhub_hub.history (resource_key, id);
CREATE TABLE streamhub_hub.history_default PARTITION OF streamhub_hub.history DEFAULT;

-- The types of events that an organization has had lately. `seen_at`: an event's time, at most an hour before the last one's.
CREATE TABLE streamhub_hub.event_types (
  organization   integer NOT NULL,
  test           boolean NOT NULL,
  type           text COLLATE "C" NOT NULL,
  seen_at        timestamptz NOT NULL,
  PRIMARY KEY (organization, test, type)
);

-- Where outbox and hub are two databases: what was appended from a source, so that nothing is appended twice after a
-- crash or a fail-over. `identities` holds (seq, xid, created_at) of each row of a batch, packed.
CREATE TABLE streamhub_hub.consumed (
  source        text COLLATE "C" NOT NULL,
  batch         bigint GENERATED ALWAYS AS IDENTITY,
  first_seq     bigint NOT NULL,
  last_seq      bigint NOT NULL,
  rows          integer NOT NULL,
  identities    bytea NOT NULL,
  consumed_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (source, batch)
);
CREATE INDEX consumed_at ON streamhub_hub.consumed (consumed_at);
-- What a relay of another database asks: the highest number that was noted, and the notes of a few numbers.
CREATE INDEX consumed_numbers ON streamhub_hub.consumed (source, last_seq, first_seq);

-- What happened that an operator should know of; `doctor` shows it. Bounded: the relay keeps the newest 1,000.
CREATE TABLE streamhub_hub.incidents (
  id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind          text NOT NULL,
  source        text,
  detail        text NOT NULL,
  at            timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Running totals that outlive a process (null organizations, organizations that are not enterprise, errors …): what
-- each append counted, added up by the relay now and then.
CREATE TABLE streamhub_hub.counted (
  name          text NOT NULL,
  source        text NOT NULL,
  value         bigint NOT NULL
);
CREATE VIEW streamhub_hub.counters AS
SELECT name, source, sum(value)::bigint AS value FROM streamhub_hub.counted GROUP BY name, source;

-- A gateway process; renewed each second and only while it has not expired.
CREATE TABLE streamhub_hub.nodes (
  id            uuid PRIMARY KEY,
  host          text NOT NULL,
  pid           integer NOT NULL,
  started_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at    timestamptz NOT NULL
) WITH (fillfactor = 50);

-- The lease of an organization's live stream, and its consumer's cursor. Kept by id, not key: an organization may
-- open a stream before it is registered. `epoch` grows with each taking; a write that names an older one changes nothing.
CREATE TABLE streamhub_hub.streams (
  organization_id  text COLLATE "C" PRIMARY KEY,
  node             uuid,                -- null: it is not held
  epoch            bigint NOT NULL DEFAULT 0,
  connected_at     timestamptz,
  released_at      timestamptz,         -- when the last one ended: stale from here for STALE_AFTER
  cursor           uuid,
  cursor_at        timestamptz,
  read_epoch       bigint,              -- the last epoch that ended with a FIN, through no proxy: all it had acknowledged was read
  ending_epoch     bigint,              -- the holder of this epoch is asked to end it; gateways look twice a second
  last_gap         jsonb                -- the data of the last gap frame, and when it was sent ("at")
) WITH (fillfactor = 50);
CREATE INDEX streams_asked_to_end ON streamhub_hub.streams (node) WHERE ending_epoch = epoch;

CREATE TABLE streamhub_hub.replays (
  id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  organization_id  text COLLATE "C" NOT NULL,
  test             boolean NOT NULL,
  node             uuid NOT NULL,       -- the process that holds the client's connection
  state            text NOT NULL CHECK (state IN ('queued', 'running', 'completed', 'cancelled', 'failed')),
  request          jsonb NOT NULL,
  events           bigint NOT NULL DEFAULT 0,
  bytes            bigint NOT NULL DEFAULT 0,
  progress         real NOT NULL DEFAULT 0,
  created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
  started_at       timestamptz,
  finished_at      timestamptz
) WITH (fillfactor = 50);
CREATE INDEX replays_of_organization ON streamhub_hub.replays (organization_id, created_at DESC);
CREATE INDEX replays_unfinished ON streamhub_hub.replays (organization_id) WHERE state IN ('queued', 'running');

-- Jobs are queued, and counted against the limits, under the lock of the organization's row: the hash of its id.
CREATE TABLE streamhub_hub.replay_locks (slot integer PRIMARY KEY);
INSERT INTO streamhub_hub.replay_locks SELECT generate_series(0, 255);

-- Where Apache Kafka carries the events: how far a topic has them, and what stands beyond that.

-- Every event up to `published_id` was acknowledged by the topic's brokers. Moves forward only, so that the
-- publisher goes on from it after any crash; what was sent beyond it is sent again, with the same ids and bytes.
CREATE TABLE streamhub_hub.publications (
  topic         text COLLATE "C" PRIMARY KEY,
  published_id  uuid NOT NULL,
  partitions    integer NOT NULL,       -- of the topic, as events were sent: a key's partition follows from it
  published_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  fault         text                    -- what keeps the publisher from sending; null: nothing does
) WITH (fillfactor = 10);

-- A row an append, written by a relay that publishes: what the publisher reads history by, since history is keyed by
-- organization. Deleted once published.
CREATE TABLE streamhub_hub.appends (
  last_id        uuid PRIMARY KEY,
  previous_id    uuid NOT NULL,         -- of the event before its first: from row to row without a gap
  organizations  integer[] NOT NULL,
  events         integer NOT NULL
);

-- Webhooks: what was registered, which events are still to be delivered, and what became of the others.

-- The columns are the fields of the API. An INSERT, UPDATE or DELETE made here counts within a second. The secrets are
-- stored as they are, since each delivery is signed with them.
CREATE TABLE streamhub_hub.webhook_endpoints (
  id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  organization     integer NOT NULL REFERENCES streamhub_hub.organizations ON DELETE CASCADE,
  test             boolean NOT NULL DEFAULT false,
  url              text NOT NULL CHECK (length(url) BETWEEN 1 AND 2048),
  events           text[] NOT NULL DEFAULT '{*}' CHECK (cardinality(events) BETWEEN 1 AND 500),
  filters          jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(filters) = 'object'),
  secret           text NOT NULL
                   DEFAULT 'whsec_' || encode(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()), 'base64'),
  old_secrets      jsonb NOT NULL DEFAULT '[]'  -- [{"secret", "valid_until": seconds of the Unix epoch}], oldest first
                   CHECK (jsonb_typeof(old_secrets) = 'array'),
  "order"          text NOT NULL DEFAULT 'none' CHECK ("order" IN ('none', 'resource')),
  max_in_flight    integer NOT NULL DEFAULT 10 CHECK (max_in_flight BETWEEN 1 AND 100),
  rate             integer CHECK (rate BETWEEN 1 AND 1000000),
  headers          jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(headers) = 'object'),
  auto_disable     boolean NOT NULL DEFAULT true,
  description      text,
  owner_email      text,
  enabled          boolean NOT NULL DEFAULT true,
  disabled_reason  text,                -- null: its owner disabled it, or nobody did
  created_at       timestamptz NOT NULL DEFAULT clock_timestamp()
                   CHECK (created_at BETWEEN '1970-01-01Z' AND '9999-01-01Z')  -- a time that the API can show
);
CREATE INDEX webhook_endpoints_organization ON streamhub_hub.webhook_endpoints (organization);

-- What dispatchers know of an endpoint: a row each. One process at a time delivers to an endpoint, so that its order, its
-- rate and what is in flight are counted in one place: `node`, while that node's row holds.
CREATE TABLE streamhub_hub.webhook_queues (
  endpoint         uuid PRIMARY KEY REFERENCES streamhub_hub.webhook_endpoints ON DELETE CASCADE,
  node             uuid,
  due_at           timestamptz,         -- of its oldest delivery, while no node has it; null: there is none
  failures         integer NOT NULL DEFAULT 0,  -- attempts that failed since the last that did not, to the tenth; then probes
  starts_after     uuid NOT NULL,       -- the head of history when the endpoint was made: it gets what is beyond
  skipped_from     uuid,                -- disabled: events beyond this id were not made deliveries of
  again_from       uuid,                -- events beyond this id, up to `again_to`, are looked through once more
  again_to         uuid,                -- null: up to where the cursor is when the look begins
  notice_due_at    timestamptz,         -- its owner is to be told then that it was disabled; null: nothing is to be told
  notice_attempts  integer NOT NULL DEFAULT 0 CHECK (notice_attempts BETWEEN 0 AND 1000000)
) WITH (fillfactor = 50);
CREATE INDEX webhook_queues_due ON streamhub_hub.webhook_queues (due_at);
CREATE INDEX webhook_queues_again ON streamhub_hub.webhook_queues (endpoint)
 WHERE again_from IS NOT NULL OR skipped_from IS NOT NULL;
CREATE INDEX webhook_queues_notice ON streamhub_hub.webhook_queues (notice_due_at) WHERE notice_due_at IS NOT NULL;

-- Deliveries that are still to be made. `event` is the webhook-id. Without a body the event stands in history.
CREATE TABLE streamhub_hub.webhook_deliveries (
  endpoint         uuid NOT NULL REFERENCES streamhub_hub.webhook_endpoints ON DELETE CASCADE,
  event            uuid NOT NULL,
  type             text NOT NULL,
  resource_key     bigint,              -- as in history; null: of no resource
  due_at           timestamptz NOT NULL  -- infinity: behind another event of its resource
                   CHECK (due_at BETWEEN '1970-01-01Z' AND '9999-01-01Z' OR due_at = 'infinity'),
  not_before       timestamptz          -- when its pause ends, if it has been attempted
                   CHECK (not_before BETWEEN '1970-01-01Z' AND '9999-01-01Z'),
  attempts         integer NOT NULL DEFAULT 0 CHECK (attempts BETWEEN 0 AND 1000000),
  log              jsonb NOT NULL DEFAULT '[]',  -- what came of each attempt
  body             bytea,
  created_at       timestamptz NOT NULL DEFAULT clock_timestamp()
                   CHECK (created_at BETWEEN '1970-01-01Z' AND '9999-01-01Z'),
  PRIMARY KEY (endpoint, event)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
CREATE INDEX webhook_deliveries_due ON streamhub_hub.webhook_deliveries (endpoint, due_at, event);
CREATE INDEX webhook_deliveries_tried ON streamhub_hub.webhook_deliveries (endpoint, attempts, due_at, event)
 WHERE attempts > 0;
CREATE INDEX webhook_deliveries_resource ON streamhub_hub.webhook_deliveries (endpoint, resource_key, event)
 WHERE resource_key IS NOT NULL;
CREATE INDEX webhook_deliveries_tests ON streamhub_hub.webhook_deliveries (endpoint, event) WHERE body IS NOT NULL;

-- Deliveries that have ended, for 30 days.
CREATE TABLE streamhub_hub.webhook_finished (
  endpoint         uuid NOT NULL REFERENCES streamhub_hub.webhook_endpoints ON DELETE CASCADE,
  event            uuid NOT NULL,
  type             text NOT NULL,
  resource_key     bigint,
  state            text NOT NULL CHECK (state IN ('delivered', 'failed')),
  log              jsonb NOT NULL,
  body             bytea,
  created_at       timestamptz NOT NULL CHECK (created_at BETWEEN '1970-01-01Z' AND '9999-01-01Z'),
  finished_at      timestamptz NOT NULL DEFAULT clock_timestamp()
                   CHECK (finished_at BETWEEN '1970-01-01Z' AND '9999-01-01Z'),
  PRIMARY KEY (endpoint, event)
);
CREATE INDEX webhook_finished_failed ON streamhub_hub.webhook_finished (endpoint, event) WHERE state = 'failed';
CREATE INDEX webhook_finished_at ON streamhub_hub.webhook_finished (finished_at);

-- How far history has been made deliveries of. What moves it locks the row.
CREATE TABLE streamhub_hub.webhook_cursor (
  only_row       boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  position       uuid,                  -- null: nothing was yet
  behind         jsonb NOT NULL DEFAULT '{}'  -- endpoint: id beyond which nothing was for it, as its queue was locked
) WITH (fillfactor = 10);
INSERT INTO streamhub_hub.webhook_cursor DEFAULT VALUES;

-- Which version of the endpoints is the newest: the sum. Each change of one adds 1, so that what made deliveries knows
-- whether it has seen them all. A row that an open transaction has counted in is passed by, so that it holds up no other.
CREATE TABLE streamhub_hub.webhook_version (
  part           integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  version        bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO streamhub_hub.webhook_version (version) VALUES (0);

-- A new endpoint gets what is appended from its making on, however late dispatchers see it: all that was is at or before
-- the head, all that will be is beyond. Where its order changes, what waits behind its resource changes with it. One that
-- is enabled needs no notice of what it was. Dispatchers listen to the channel.
CREATE FUNCTION streamhub_hub.webhook_endpoint_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  free_part integer;
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO streamhub_hub.webhook_queues (endpoint, starts_after, again_from)
    SELECT NEW.id, h.id, h.id
      FROM (SELECT (lpad(to_hex(last_ms), 12, '0') || '7000' || to_hex(last_counter | (1::bigint << 63)))::uuid AS id
              FROM streamhub_hub.log_head) AS h;
  ELSIF TG_OP = 'UPDATE' THEN
    IF NEW."order" <> OLD."order" THEN
      PERFORM FROM streamhub_hub.webhook_queues WHERE endpoint = NEW.id FOR NO KEY UPDATE;
      IF NEW."order" = 'none' THEN
        UPDATE streamhub_hub.webhook_deliveries SET due_at = greatest(clock_timestamp(), not_before)
         WHERE endpoint = NEW.id AND due_at = 'infinity';
      ELSE
        UPDATE streamhub_hub.webhook_deliveries AS d SET due_at = 'infinity'
         WHERE d.endpoint = NEW.id AND d.resource_key IS NOT NULL
           AND EXISTS (SELECT FROM streamhub_hub.webhook_deliveries AS w
                        WHERE w.endpoint = d.endpoint AND w.resource_key = d.resource_key AND w.event < d.event);
      END IF;
    END IF;
    IF NEW."order" <> OLD."order" OR NEW.enabled AND NOT OLD.enabled THEN
      UPDATE streamhub_hub.webhook_queues
         SET due_at = CASE WHEN node IS NULL THEN clock_timestamp() ELSE due_at END,
             failures = CASE WHEN NEW.enabled AND NOT OLD.enabled THEN 0 ELSE failures END,
             notice_due_at = CASE WHEN NEW.enabled THEN NULL ELSE notice_due_at END
       WHERE endpoint = NEW.id;
    END IF;
  END IF;
  SELECT v.part INTO free_part FROM streamhub_hub.webhook_version AS v LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED;
  IF FOUND THEN
    UPDATE streamhub_hub.webhook_version SET version = version + 1 WHERE part = free_part;
  ELSE
    INSERT INTO streamhub_hub.webhook_version (version) VALUES (1);
  END IF;
  PERFORM pg_notify(c.webhooks, 'endpoints') FROM streamhub_hub.channels AS c;
  RETURN NULL;
END $$;
CREATE TRIGGER webhook_endpoint_changed AFTER INSERT OR UPDATE OR DELETE ON streamhub_hub.webhook_endpoints
FOR EACH ROW EXECUTE FUNCTION streamhub_hub.webhook_endpoint_changed();

REVOKE ALL ON ALL TABLES IN SCHEMA streamhub_hub FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA streamhub_hub FROM PUBLIC;
