-- The hub's own schema: who the organizations are, the one order (log_head), history, and who leads or serves what.
-- Nothing here is readable by PUBLIC.

REVOKE ALL ON SCHEMA streamhub_hub FROM PUBLIC;

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

-- Whoever caches the registry listens.
CREATE FUNCTION streamhub_hub.organization_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM pg_notify('streamhub_organizations', coalesce(NEW.id, OLD.id));
  RETURN NULL;
END $$;
CREATE TRIGGER organization_changed AFTER INSERT OR UPDATE OR DELETE ON streamhub_hub.organizations
FOR EACH ROW EXECUTE FUNCTION streamhub_hub.organization_changed();

-- The one order. Every append updates this row in the transaction that writes history, WHERE epoch is its own:
-- a leader of an older epoch can no longer commit. The id of an event is (milliseconds, counter) as a UUIDv7.
CREATE TABLE streamhub_hub.log_head (
  only_row      boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  epoch         bigint NOT NULL DEFAULT 0,
  last_ms       bigint NOT NULL DEFAULT 0,
  last_counter  bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);
INSERT INTO streamhub_hub.log_head DEFAULT VALUES;

-- Who may lead the relay. Apart from log_head, so that a renewal never waits for an append. The holder's connections
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

-- What happened that an operator should know of; `doctor` shows it. Bounded: the relay keeps the newest 1,000.
CREATE TABLE streamhub_hub.incidents (
  id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind          text NOT NULL,
  source        text,
  detail        text NOT NULL,
  at            timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Running totals that outlive a process (null organizations, organizations that are not enterprise, errors …).
CREATE TABLE streamhub_hub.counters (
  name          text NOT NULL,
  source        text NOT NULL DEFAULT '',
  value         bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (name, source)
);

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
  node             uuid,                -- null: nobody holds it
  epoch            bigint NOT NULL DEFAULT 0,
  connected_at     timestamptz,
  released_at      timestamptz,         -- when the last one ended: stale from here for STALE_AFTER
  cursor           uuid,
  cursor_at        timestamptz,
  read_epoch       bigint               -- the last epoch that ended with a FIN, through no proxy: all it had acknowledged was read
) WITH (fillfactor = 50);

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

REVOKE ALL ON ALL TABLES IN SCHEMA streamhub_hub FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA streamhub_hub FROM PUBLIC;
