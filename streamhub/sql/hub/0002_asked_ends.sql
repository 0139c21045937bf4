-- What one gateway asks of another through a stream's row, and what `status` tells of a stream's last gap.
ALTER TABLE streamhub_hub.streams
  ADD COLUMN ending_epoch  bigint,    -- the holder of this epoch is asked to end it; gateways look twice a second
  ADD COLUMN last_gap      jsonb;     -- the data of the last gap frame, and when it was sent ("at")
CREATE INDEX streams_asked_to_end ON streamhub_hub.streams (node) WHERE ending_epoch = epoch;
