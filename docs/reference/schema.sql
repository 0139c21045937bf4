-- Written by `make docs`. Do not edit.
-- The tables of a hub (schema streamhub_hub) and of a source (schema streamhub), after all migrations: pg_dump of
-- PostgreSQL 18. What each table and column is for stands beside it in streamhub/postgres/sql.


CREATE SCHEMA streamhub_hub;

CREATE TABLE streamhub_hub.api_keys (
    id text NOT NULL COLLATE pg_catalog."C",
    organization integer NOT NULL,
    hash bytea NOT NULL,
    scopes text[] NOT NULL,
    test boolean NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone,
    last_used_at timestamp with time zone,
    CONSTRAINT api_keys_hash_check CHECK ((octet_length(hash) = 32))
);

CREATE TABLE streamhub_hub.appends (
    last_id uuid NOT NULL,
    previous_id uuid NOT NULL,
    organizations integer[] NOT NULL,
    events integer NOT NULL
);

CREATE TABLE streamhub_hub.channels (
    only_row boolean DEFAULT true NOT NULL,
    appends text DEFAULT ('streamhub_append_'::text || replace((gen_random_uuid())::text, '-'::text, ''::text)) NOT NULL,
    organizations text DEFAULT ('streamhub_organizations_'::text || replace((gen_random_uuid())::text, '-'::text, ''::text)) NOT NULL,
    webhooks text DEFAULT ('streamhub_webhooks_'::text || replace((gen_random_uuid())::text, '-'::text, ''::text)) NOT NULL,
    CONSTRAINT channels_only_row_check CHECK (only_row)
);

CREATE TABLE streamhub_hub.consumed (
    source text NOT NULL COLLATE pg_catalog."C",
    batch bigint NOT NULL,
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL,
    rows integer NOT NULL,
    identities bytea NOT NULL,
    consumed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE streamhub_hub.consumed ALTER COLUMN batch ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME streamhub_hub.consumed_batch_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE streamhub_hub.counted (
    name text NOT NULL,
    source text NOT NULL,
    value bigint NOT NULL
);

CREATE VIEW streamhub_hub.counters AS
 SELECT name,
    source,
    (sum(value))::bigint AS value
   FROM streamhub_hub.counted
  GROUP BY name, source;

CREATE TABLE streamhub_hub.event_types (
    organization integer NOT NULL,
    test boolean NOT NULL,
    type text NOT NULL COLLATE pg_catalog."C",
    seen_at timestamp with time zone NOT NULL
);

CREATE TABLE streamhub_hub.history (
    organization integer NOT NULL,
    id uuid NOT NULL,
    test boolean NOT NULL,
    resource_key bigint NOT NULL,
    type text NOT NULL COLLATE pg_catalog."C",
    resource_type text COLLATE pg_catalog."C",
    resource_id text COLLATE pg_catalog."C",
    frame bytea NOT NULL
)
PARTITION BY RANGE (id);

CREATE TABLE streamhub_hub.history_default (
    organization integer CONSTRAINT history_organization_not_null NOT NULL,
    id uuid CONSTRAINT history_id_not_null NOT NULL,
    test boolean CONSTRAINT history_test_not_null NOT NULL,
    resource_key bigint CONSTRAINT history_resource_key_not_null NOT NULL,
    type text CONSTRAINT history_type_not_null NOT NULL COLLATE pg_catalog."C",
    resource_type text COLLATE pg_catalog."C",
    resource_id text COLLATE pg_catalog."C",
    frame bytea CONSTRAINT history_frame_not_null NOT NULL
);

CREATE TABLE streamhub_hub.identity (
    only_row boolean DEFAULT true NOT NULL,
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    CONSTRAINT identity_only_row_check CHECK (only_row)
);

CREATE TABLE streamhub_hub.incidents (
    id bigint NOT NULL,
    kind text NOT NULL,
    source text,
    detail text NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE streamhub_hub.incidents ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME streamhub_hub.incidents_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE streamhub_hub.log_epoch (
    only_row boolean DEFAULT true NOT NULL,
    epoch bigint DEFAULT 0 NOT NULL,
    CONSTRAINT log_epoch_only_row_check CHECK (only_row)
);

CREATE TABLE streamhub_hub.log_heads (
    last_ms bigint NOT NULL,
    last_counter bigint NOT NULL,
    event_ms bigint NOT NULL,
    event_counter bigint NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='10000');

CREATE VIEW streamhub_hub.log_head AS
 SELECT e.epoch,
    h.last_ms,
    h.last_counter,
    h.event_ms,
    h.event_counter
   FROM (streamhub_hub.log_epoch e
     CROSS JOIN ( SELECT log_heads.last_ms,
            log_heads.last_counter,
            log_heads.event_ms,
            log_heads.event_counter
           FROM streamhub_hub.log_heads
          ORDER BY log_heads.last_ms DESC, log_heads.last_counter DESC
         LIMIT 1) h)
  WHERE e.only_row;

CREATE TABLE streamhub_hub.migrations (
    name text NOT NULL,
    digest text NOT NULL,
    applied_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

CREATE TABLE streamhub_hub.nodes (
    id uuid NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    started_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    expires_at timestamp with time zone NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE streamhub_hub.organizations (
    key integer NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    slug text NOT NULL COLLATE pg_catalog."C",
    slug_is_made boolean NOT NULL,
    enterprise boolean NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT organizations_slug_check CHECK ((slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'::text))
);

ALTER TABLE streamhub_hub.organizations ALTER COLUMN key ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME streamhub_hub.organizations_key_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE streamhub_hub.publications (
    topic text NOT NULL COLLATE pg_catalog."C",
    published_id uuid NOT NULL,
    partitions integer NOT NULL,
    published_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    fault text
)
WITH (fillfactor='10');

CREATE TABLE streamhub_hub.relay_lease (
    only_row boolean DEFAULT true NOT NULL,
    epoch bigint DEFAULT 0 NOT NULL,
    holder text,
    expires_at timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    CONSTRAINT relay_lease_only_row_check CHECK (only_row)
)
WITH (fillfactor='10');

CREATE TABLE streamhub_hub.replay_locks (
    slot integer NOT NULL
);

CREATE TABLE streamhub_hub.replays (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    organization_id text NOT NULL COLLATE pg_catalog."C",
    test boolean NOT NULL,
    node uuid NOT NULL,
    state text NOT NULL,
    request jsonb NOT NULL,
    events bigint DEFAULT 0 NOT NULL,
    bytes bigint DEFAULT 0 NOT NULL,
    progress real DEFAULT 0 NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    CONSTRAINT replays_state_check CHECK ((state = ANY (ARRAY['queued'::text, 'running'::text, 'completed'::text, 'cancelled'::text, 'failed'::text])))
)
WITH (fillfactor='50');

CREATE TABLE streamhub_hub.streams (
    organization_id text NOT NULL COLLATE pg_catalog."C",
    node uuid,
    epoch bigint DEFAULT 0 NOT NULL,
    connected_at timestamp with time zone,
    released_at timestamp with time zone,
    cursor uuid,
    cursor_at timestamp with time zone,
    read_epoch bigint,
    ending_epoch bigint,
    last_gap jsonb
)
WITH (fillfactor='50');

CREATE TABLE streamhub_hub.webhook_cursor (
    only_row boolean DEFAULT true NOT NULL,
    "position" uuid,
    behind jsonb DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT webhook_cursor_only_row_check CHECK (only_row)
)
WITH (fillfactor='10');

CREATE TABLE streamhub_hub.webhook_deliveries (
    endpoint uuid NOT NULL,
    event uuid NOT NULL,
    type text NOT NULL,
    resource_key bigint,
    due_at timestamp with time zone NOT NULL,
    not_before timestamp with time zone,
    attempts integer DEFAULT 0 NOT NULL,
    log jsonb DEFAULT '[]'::jsonb NOT NULL,
    body bytea,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT webhook_deliveries_attempts_check CHECK (((attempts >= 0) AND (attempts <= 1000000))),
    CONSTRAINT webhook_deliveries_created_at_check CHECK (((created_at >= '1970-01-01 00:00:00+00'::timestamp with time zone) AND (created_at <= '9999-01-01 00:00:00+00'::timestamp with time zone))),
    CONSTRAINT webhook_deliveries_due_at_check CHECK ((((due_at >= '1970-01-01 00:00:00+00'::timestamp with time zone) AND (due_at <= '9999-01-01 00:00:00+00'::timestamp with time zone)) OR (due_at = 'infinity'::timestamp with time zone))),
    CONSTRAINT webhook_deliveries_not_before_check CHECK (((not_before >= '1970-01-01 00:00:00+00'::timestamp with time zone) AND (not_before <= '9999-01-01 00:00:00+00'::timestamp with time zone)))
)
WITH (fillfactor='80', autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_threshold='2000');

CREATE TABLE streamhub_hub.webhook_endpoints (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    organization integer NOT NULL,
    test boolean DEFAULT false NOT NULL,
    url text NOT NULL,
    events text[] DEFAULT '{*}'::text[] NOT NULL,
    filters jsonb DEFAULT '{}'::jsonb NOT NULL,
    secret text DEFAULT ('whsec_'::text || encode((uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'base64'::text)) NOT NULL,
    old_secrets jsonb DEFAULT '[]'::jsonb NOT NULL,
    "order" text DEFAULT 'none'::text NOT NULL,
    max_in_flight integer DEFAULT 10 NOT NULL,
    rate integer,
    headers jsonb DEFAULT '{}'::jsonb NOT NULL,
    auto_disable boolean DEFAULT true NOT NULL,
    description text,
    owner_email text,
    enabled boolean DEFAULT true NOT NULL,
    disabled_reason text,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT webhook_endpoints_created_at_check CHECK (((created_at >= '1970-01-01 00:00:00+00'::timestamp with time zone) AND (created_at <= '9999-01-01 00:00:00+00'::timestamp with time zone))),
    CONSTRAINT webhook_endpoints_events_check CHECK (((cardinality(events) >= 1) AND (cardinality(events) <= 500))),
    CONSTRAINT webhook_endpoints_filters_check CHECK ((jsonb_typeof(filters) = 'object'::text)),
    CONSTRAINT webhook_endpoints_headers_check CHECK ((jsonb_typeof(headers) = 'object'::text)),
    CONSTRAINT webhook_endpoints_max_in_flight_check CHECK (((max_in_flight >= 1) AND (max_in_flight <= 100))),
    CONSTRAINT webhook_endpoints_old_secrets_check CHECK ((jsonb_typeof(old_secrets) = 'array'::text)),
    CONSTRAINT webhook_endpoints_order_check CHECK (("order" = ANY (ARRAY['none'::text, 'resource'::text]))),
    CONSTRAINT webhook_endpoints_rate_check CHECK (((rate >= 1) AND (rate <= 1000000))),
    CONSTRAINT webhook_endpoints_url_check CHECK (((length(url) >= 1) AND (length(url) <= 2048)))
);

CREATE TABLE streamhub_hub.webhook_finished (
    endpoint uuid NOT NULL,
    event uuid NOT NULL,
    type text NOT NULL,
    resource_key bigint,
    state text NOT NULL,
    log jsonb NOT NULL,
    body bytea,
    created_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT webhook_finished_created_at_check CHECK (((created_at >= '1970-01-01 00:00:00+00'::timestamp with time zone) AND (created_at <= '9999-01-01 00:00:00+00'::timestamp with time zone))),
    CONSTRAINT webhook_finished_finished_at_check CHECK (((finished_at >= '1970-01-01 00:00:00+00'::timestamp with time zone) AND (finished_at <= '9999-01-01 00:00:00+00'::timestamp with time zone))),
    CONSTRAINT webhook_finished_state_check CHECK ((state = ANY (ARRAY['delivered'::text, 'failed'::text])))
);

CREATE TABLE streamhub_hub.webhook_queues (
    endpoint uuid NOT NULL,
    node uuid,
    due_at timestamp with time zone,
    failures integer DEFAULT 0 NOT NULL,
    starts_after uuid NOT NULL,
    skipped_from uuid,
    again_from uuid,
    again_to uuid,
    notice_due_at timestamp with time zone,
    notice_attempts integer DEFAULT 0 NOT NULL,
    CONSTRAINT webhook_queues_notice_attempts_check CHECK (((notice_attempts >= 0) AND (notice_attempts <= 1000000)))
)
WITH (fillfactor='50');

CREATE TABLE streamhub_hub.webhook_version (
    part integer NOT NULL,
    version bigint NOT NULL
)
WITH (fillfactor='10');

ALTER TABLE streamhub_hub.webhook_version ALTER COLUMN part ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME streamhub_hub.webhook_version_part_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE ONLY streamhub_hub.history ATTACH PARTITION streamhub_hub.history_default DEFAULT;

ALTER TABLE ONLY streamhub_hub.api_keys
    ADD CONSTRAINT api_keys_pkey PRIMARY KEY (id);

ALTER TABLE ONLY streamhub_hub.appends
    ADD CONSTRAINT appends_pkey PRIMARY KEY (last_id);

ALTER TABLE ONLY streamhub_hub.channels
    ADD CONSTRAINT channels_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY streamhub_hub.consumed
    ADD CONSTRAINT consumed_pkey PRIMARY KEY (source, batch);

ALTER TABLE ONLY streamhub_hub.event_types
    ADD CONSTRAINT event_types_pkey PRIMARY KEY (organization, test, type);

ALTER TABLE ONLY streamhub_hub.history
    ADD CONSTRAINT history_pkey PRIMARY KEY (organization, id);

ALTER TABLE ONLY streamhub_hub.history_default
    ADD CONSTRAINT history_default_pkey PRIMARY KEY (organization, id);

ALTER TABLE ONLY streamhub_hub.identity
    ADD CONSTRAINT identity_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY streamhub_hub.incidents
    ADD CONSTRAINT incidents_pkey PRIMARY KEY (id);

ALTER TABLE ONLY streamhub_hub.log_epoch
    ADD CONSTRAINT log_epoch_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY streamhub_hub.log_heads
    ADD CONSTRAINT log_heads_pkey PRIMARY KEY (last_ms, last_counter);

ALTER TABLE ONLY streamhub_hub.migrations
    ADD CONSTRAINT migrations_pkey PRIMARY KEY (name);

ALTER TABLE ONLY streamhub_hub.nodes
    ADD CONSTRAINT nodes_pkey PRIMARY KEY (id);

ALTER TABLE ONLY streamhub_hub.organizations
    ADD CONSTRAINT organizations_id_key UNIQUE (id);

ALTER TABLE ONLY streamhub_hub.organizations
    ADD CONSTRAINT organizations_pkey PRIMARY KEY (key);

ALTER TABLE ONLY streamhub_hub.organizations
    ADD CONSTRAINT organizations_slug_key UNIQUE (slug);

ALTER TABLE ONLY streamhub_hub.publications
    ADD CONSTRAINT publications_pkey PRIMARY KEY (topic);

ALTER TABLE ONLY streamhub_hub.relay_lease
    ADD CONSTRAINT relay_lease_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY streamhub_hub.replay_locks
    ADD CONSTRAINT replay_locks_pkey PRIMARY KEY (slot);

ALTER TABLE ONLY streamhub_hub.replays
    ADD CONSTRAINT replays_pkey PRIMARY KEY (id);

ALTER TABLE ONLY streamhub_hub.streams
    ADD CONSTRAINT streams_pkey PRIMARY KEY (organization_id);

ALTER TABLE ONLY streamhub_hub.webhook_cursor
    ADD CONSTRAINT webhook_cursor_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY streamhub_hub.webhook_deliveries
    ADD CONSTRAINT webhook_deliveries_pkey PRIMARY KEY (endpoint, event);

ALTER TABLE ONLY streamhub_hub.webhook_endpoints
    ADD CONSTRAINT webhook_endpoints_pkey PRIMARY KEY (id);

ALTER TABLE ONLY streamhub_hub.webhook_finished
    ADD CONSTRAINT webhook_finished_pkey PRIMARY KEY (endpoint, event);

ALTER TABLE ONLY streamhub_hub.webhook_queues
    ADD CONSTRAINT webhook_queues_pkey PRIMARY KEY (endpoint);

ALTER TABLE ONLY streamhub_hub.webhook_version
    ADD CONSTRAINT webhook_version_pkey PRIMARY KEY (part);

CREATE INDEX api_keys_organization ON streamhub_hub.api_keys USING btree (organization);

CREATE INDEX consumed_at ON streamhub_hub.consumed USING btree (consumed_at);

CREATE INDEX consumed_numbers ON streamhub_hub.consumed USING btree (source, last_seq, first_seq);

CREATE INDEX history_resource ON ONLY streamhub_hub.history USING btree (resource_key, id);

CREATE INDEX history_default_resource_key_id_idx ON streamhub_hub.history_default USING btree (resource_key, id);

CREATE INDEX replays_of_organization ON streamhub_hub.replays USING btree (organization_id, created_at DESC);

CREATE INDEX replays_unfinished ON streamhub_hub.replays USING btree (organization_id) WHERE (state = ANY (ARRAY['queued'::text, 'running'::text]));

CREATE INDEX streams_asked_to_end ON streamhub_hub.streams USING btree (node) WHERE (ending_epoch = epoch);

CREATE INDEX webhook_deliveries_due ON streamhub_hub.webhook_deliveries USING btree (endpoint, due_at, event);

CREATE INDEX webhook_deliveries_resource ON streamhub_hub.webhook_deliveries USING btree (endpoint, resource_key, event) WHERE (resource_key IS NOT NULL);

CREATE INDEX webhook_deliveries_tests ON streamhub_hub.webhook_deliveries USING btree (endpoint, event) WHERE (body IS NOT NULL);

CREATE INDEX webhook_deliveries_tried ON streamhub_hub.webhook_deliveries USING btree (endpoint, attempts, due_at, event) WHERE (attempts > 0);

CREATE INDEX webhook_endpoints_organization ON streamhub_hub.webhook_endpoints USING btree (organization);

CREATE INDEX webhook_finished_at ON streamhub_hub.webhook_finished USING btree (finished_at);

CREATE INDEX webhook_finished_failed ON streamhub_hub.webhook_finished USING btree (endpoint, event) WHERE (state = 'failed'::text);

CREATE INDEX webhook_queues_again ON streamhub_hub.webhook_queues USING btree (endpoint) WHERE ((again_from IS NOT NULL) OR (skipped_from IS NOT NULL));

CREATE INDEX webhook_queues_due ON streamhub_hub.webhook_queues USING btree (due_at);

CREATE INDEX webhook_queues_notice ON streamhub_hub.webhook_queues USING btree (notice_due_at) WHERE (notice_due_at IS NOT NULL);

ALTER INDEX streamhub_hub.history_pkey ATTACH PARTITION streamhub_hub.history_default_pkey;

ALTER INDEX streamhub_hub.history_resource ATTACH PARTITION streamhub_hub.history_default_resource_key_id_idx;

CREATE TRIGGER organization_changed AFTER INSERT OR DELETE OR UPDATE ON streamhub_hub.organizations FOR EACH ROW EXECUTE FUNCTION streamhub_hub.organization_changed();

CREATE TRIGGER webhook_endpoint_changed AFTER INSERT OR DELETE OR UPDATE ON streamhub_hub.webhook_endpoints FOR EACH ROW EXECUTE FUNCTION streamhub_hub.webhook_endpoint_changed();

ALTER TABLE ONLY streamhub_hub.api_keys
    ADD CONSTRAINT api_keys_organization_fkey FOREIGN KEY (organization) REFERENCES streamhub_hub.organizations(key) ON DELETE CASCADE;

ALTER TABLE ONLY streamhub_hub.webhook_deliveries
    ADD CONSTRAINT webhook_deliveries_endpoint_fkey FOREIGN KEY (endpoint) REFERENCES streamhub_hub.webhook_endpoints(id) ON DELETE CASCADE;

ALTER TABLE ONLY streamhub_hub.webhook_endpoints
    ADD CONSTRAINT webhook_endpoints_organization_fkey FOREIGN KEY (organization) REFERENCES streamhub_hub.organizations(key) ON DELETE CASCADE;

ALTER TABLE ONLY streamhub_hub.webhook_finished
    ADD CONSTRAINT webhook_finished_endpoint_fkey FOREIGN KEY (endpoint) REFERENCES streamhub_hub.webhook_endpoints(id) ON DELETE CASCADE;

ALTER TABLE ONLY streamhub_hub.webhook_queues
    ADD CONSTRAINT webhook_queues_endpoint_fkey FOREIGN KEY (endpoint) REFERENCES streamhub_hub.webhook_endpoints(id) ON DELETE CASCADE;

CREATE SCHEMA streamhub;

CREATE TABLE streamhub.backfills (
    capture integer NOT NULL,
    leaf oid,
    key_columns text[],
    "position" text[],
    done oid[] DEFAULT '{}'::oid[] NOT NULL,
    rows bigint DEFAULT 0 NOT NULL,
    started_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    updated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    finished_at timestamp with time zone,
    runner integer,
    runner_key bigint
);

CREATE TABLE streamhub.captures (
    id integer NOT NULL,
    relation regclass NOT NULL,
    relation_oid oid NOT NULL,
    name text NOT NULL,
    natts smallint NOT NULL,
    column_names json NOT NULL,
    resource_type text NOT NULL,
    key_columns smallint[] NOT NULL,
    key_is_primary boolean NOT NULL,
    organization_column smallint,
    organization_id text,
    test_column smallint,
    test boolean DEFAULT false NOT NULL,
    excluded_columns smallint[] DEFAULT '{}'::smallint[] NOT NULL,
    redacted_columns smallint[] DEFAULT '{}'::smallint[] NOT NULL,
    anonymization_column smallint,
    type_names json DEFAULT '{}'::json NOT NULL,
    always boolean DEFAULT false NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    removed_at timestamp with time zone,
    CONSTRAINT captures_check CHECK (((organization_column IS NULL) <> (organization_id IS NULL)))
);

ALTER TABLE streamhub.captures ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME streamhub.captures_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE streamhub.migrations (
    name text NOT NULL,
    digest text NOT NULL,
    applied_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

CREATE TABLE streamhub.outbox (
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    seq bigint NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    origin text NOT NULL,
    old_ctid tid,
    new_ctid tid,
    chained boolean,
    who text,
    old_row text,
    new_row text
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='20000', autovacuum_vacuum_insert_threshold='-1', autovacuum_analyze_scale_factor='0', autovacuum_analyze_threshold='1000000', vacuum_truncate='false', toast.autovacuum_vacuum_scale_factor='0', toast.autovacuum_vacuum_threshold='20000', toast.vacuum_truncate='false');

ALTER TABLE streamhub.outbox ALTER COLUMN seq ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME streamhub.outbox_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE streamhub.publish_ids (
    organization text NOT NULL COLLATE pg_catalog."C",
    test boolean NOT NULL,
    publish_id text NOT NULL COLLATE pg_catalog."C",
    published_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

CREATE TABLE streamhub.relay_mark (
    only_row boolean DEFAULT true NOT NULL,
    hub uuid,
    CONSTRAINT relay_mark_only_row_check CHECK (only_row)
)
WITH (fillfactor='10');

CREATE TABLE streamhub.shapes (
    capture integer NOT NULL,
    relation oid NOT NULL,
    attachment oid NOT NULL,
    filenode oid NOT NULL,
    natts smallint NOT NULL,
    form text NOT NULL,
    expands boolean NOT NULL,
    columns json NOT NULL,
    digest text NOT NULL,
    seen_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE ONLY streamhub.backfills
    ADD CONSTRAINT backfills_pkey PRIMARY KEY (capture);

ALTER TABLE ONLY streamhub.captures
    ADD CONSTRAINT captures_pkey PRIMARY KEY (id);

ALTER TABLE ONLY streamhub.migrations
    ADD CONSTRAINT migrations_pkey PRIMARY KEY (name);

ALTER TABLE ONLY streamhub.outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY (seq);

ALTER TABLE ONLY streamhub.publish_ids
    ADD CONSTRAINT publish_ids_pkey PRIMARY KEY (organization, test, publish_id);

ALTER TABLE ONLY streamhub.relay_mark
    ADD CONSTRAINT relay_mark_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY streamhub.shapes
    ADD CONSTRAINT shapes_pkey PRIMARY KEY (capture, relation, attachment, natts, digest);

CREATE UNIQUE INDEX captures_active ON streamhub.captures USING btree (relation) WHERE (removed_at IS NULL);

CREATE INDEX publish_ids_published_at ON streamhub.publish_ids USING btree (published_at);

ALTER TABLE ONLY streamhub.backfills
    ADD CONSTRAINT backfills_capture_fkey FOREIGN KEY (capture) REFERENCES streamhub.captures(id) ON DELETE CASCADE;

ALTER TABLE ONLY streamhub.shapes
    ADD CONSTRAINT shapes_capture_fkey FOREIGN KEY (capture) REFERENCES streamhub.captures(id) ON DELETE CASCADE;

GRANT SELECT ON TABLE streamhub.captures TO streamhub_capture;

GRANT INSERT ON TABLE streamhub.outbox TO streamhub_capture;

GRANT USAGE ON SEQUENCE streamhub.outbox_seq_seq TO streamhub_capture;

GRANT SELECT ON TABLE streamhub.shapes TO streamhub_capture;

-- Functions: their bodies are in streamhub/postgres/sql.
-- streamhub.base_type(type oid) returns oid
-- streamhub.bounded_row_text(r record, relation oid, as_json boolean, expands boolean, money text) returns text
-- streamhub.capture_nothing() returns trigger
-- streamhub.capture_of_partitions(capture integer) returns text
-- streamhub.capture_slowly(capture integer, relation oid, attachment oid, natts smallint, form text, expands boolean, money text, old_row record, new_row record, old_ctid tid, new_ctid tid, chained boolean) returns void, security definer
-- streamhub.capture_truncate() returns trigger, security definer
-- streamhub.column_name(relation oid, number integer) returns text
-- streamhub.column_types(relation oid) returns TABLE(number smallint, name name, type oid, in_array boolean)
-- streamhub.columns_ever(relation oid) returns smallint
-- streamhub.described(relation oid, numbers smallint[]) returns text
-- streamhub.digits(value anyelement, small integer) returns bigint
-- streamhub.expanding_columns(relation oid) returns name[]
-- streamhub.first_oid_of_users() returns bigint
-- streamhub.form(relation oid) returns text
-- streamhub.hand_over(function regprocedure) returns void
-- streamhub.identity(leaf oid, capture_id integer, OUT numbers smallint[], OUT fields text) returns record
-- streamhub.identity_text(r record, fields text) returns text
-- streamhub.known_form(capture_id integer, leaf oid) returns text
-- streamhub.make_capture_function(capture integer, relation oid) returns text
-- streamhub.make_trigger_function(function text, body text) returns void
-- streamhub.money_format() returns text
-- streamhub.origin(capture text, relation oid, natts integer, flags text, attachment oid, described text) returns text
-- streamhub.partitions(root oid) returns TABLE(oid oid, is_leaf boolean)
-- streamhub.publish(organization text, type text, data json, resource_type text, resource_id text, publish_id text, test boolean) returns text, security definer
-- streamhub.reading_runs_code(relation oid) returns boolean
-- streamhub.row_text(r record, as_json boolean) returns text
-- streamhub.row_text_with_money(r record, as_json boolean, money text) returns text
-- streamhub.runs_when_planned(tree text) returns boolean
-- streamhub.stored_row(relation oid, alias text) returns text
-- streamhub.unusual_digits(number numeric) returns bigint
-- streamhub.wanted_settings(relation oid) returns text
-- streamhub.write_published(organization text, test boolean, types text[], data text[], resource_types text[], resource_ids text[], publish_ids text[]) returns void
-- streamhub_hub.append_few(leader bigint, organizations integer[], tests boolean[], resource_keys bigint[], types text[], resource_types text[], resource_ids text[], starts bytea[], middle bytea, ends bytea[], named integer[], notice text, journal boolean, consumed boolean, OUT previous_ms bigint, OUT previous_counter bigint, OUT previous_event_ms bigint, OUT previous_event_counter bigint, OUT clock bigint, OUT ms bigint, OUT counter bigint) returns record
-- streamhub_hub.close_window(to_ms bigint) returns void
-- streamhub_hub.event_id(ms bigint, counter bigint) returns uuid
-- streamhub_hub.lease_holds(expires_at timestamp with time zone) returns boolean
-- streamhub_hub.lock_log(leader bigint, OUT head_ms bigint, OUT head_counter bigint, OUT event_ms bigint, OUT event_counter bigint, OUT clock bigint) returns record
-- streamhub_hub.organization_changed() returns trigger
-- streamhub_hub.reserve(leader bigint, events bigint, OUT previous_ms bigint, OUT previous_counter bigint, OUT previous_event_ms bigint, OUT previous_event_counter bigint, OUT clock bigint, OUT ms bigint, OUT counter bigint) returns record
-- streamhub_hub.reserve_and_tell(leader bigint, events bigint, organizations integer[], notice text, journal boolean, OUT previous_ms bigint, OUT previous_counter bigint, OUT previous_event_ms bigint, OUT previous_event_counter bigint, OUT clock bigint, OUT ms bigint, OUT counter bigint) returns record
-- streamhub_hub.webhook_endpoint_changed() returns trigger
