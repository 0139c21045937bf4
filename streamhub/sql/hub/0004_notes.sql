-- What a relay of another database asks: the highest number that was noted, and the notes of a few numbers.
CREATE INDEX consumed_numbers ON streamhub_hub.consumed (source, last_seq, first_seq);
