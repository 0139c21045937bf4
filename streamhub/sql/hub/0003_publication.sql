-- Where Apache Kafka carries the events: how far a topic has them, and what stands beyond that.

-- Every event up to `published_id` was acknowledged by the topic's brokers. Moves forward only, so that whoever sends
-- goes on from it after any crash; what was sent beyond it is sent again, with the same ids and bytes.
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

-- The last id that an event was given, where last_ms and last_counter are also moved by the closing of a window.
ALTER TABLE streamhub_hub.log_head
  ADD COLUMN event_ms      bigint NOT NULL DEFAULT 0,
  ADD COLUMN event_counter bigint NOT NULL DEFAULT 0;
UPDATE streamhub_hub.log_head SET event_ms = last_ms, event_counter = last_counter;
