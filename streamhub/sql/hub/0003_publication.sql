-- Where Apache Kafka carries the events: how far a topic has them, and what stands beyond that.

-- Every event up to `published_id` was acknowledged by the topic's brokers. Moves forward only, so that whoever sends
-- goes on from it after any crash; what was sent beyond it is sent again, with the same ids and bytes.
CREATE TABLE streamhub_hub.publications (
  topic         text COLLATE "C" PRIMARY KEY,
  published_id  uuid NOT NULL,
  partitions    integer NOT NULL,       -- of the topic, as events were sent: a key's partition follows from it
  published_at  timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 10);

-- A row an append, written by a relay that publishes: what the publisher reads history by, since history is keyed by
-- organization. Deleted once published.
CREATE TABLE streamhub_hub.appends (
  last_id        uuid PRIMARY KEY,
  previous_id    uuid NOT NULL,         -- the head before it: from row to row without a gap
  organizations  integer[] NOT NULL,
  events         integer NOT NULL,
  bytes          bigint NOT NULL
);
