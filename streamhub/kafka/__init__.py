"""All that speaks to Kafka: the publisher that copies history into a topic, and the tail that reads it."""
