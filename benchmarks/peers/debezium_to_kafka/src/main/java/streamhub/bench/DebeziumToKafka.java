package streamhub.bench;

import io.debezium.engine.ChangeEvent;
import io.debezium.engine.DebeziumEngine;
import io.debezium.engine.DebeziumEngine.RecordCommitter;
import io.debezium.engine.format.JsonByteArray;
import java.io.FileInputStream;
import java.io.InputStream;
import java.util.ArrayDeque;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * From PostgreSQL to Kafka by Debezium's engine, as a worker of Kafka Connect does it: batches are sent without waiting,
 * and offsets are committed in order once all records of a batch are acknowledged.
 *
 * <p>Arguments: a file of properties, then key=value for more. What begins with "producer." is the producer's.
 */
public final class DebeziumToKafka {
    private static final int MOST_IN_FLIGHT = 8; // batches
    private static final int EXIT_FAILED = 1;

    private record Batch(
            List<ChangeEvent<byte[], byte[]>> events,
            RecordCommitter<ChangeEvent<byte[], byte[]>> committer,
            CountDownLatch unacknowledged) {}

    private final KafkaProducer<byte[], byte[]> producer;
    private final ArrayDeque<Batch> inFlight = new ArrayDeque<>();

    private DebeziumToKafka(KafkaProducer<byte[], byte[]> producer) {
        this.producer = producer;
    }

    private void take(
            List<ChangeEvent<byte[], byte[]>> events, RecordCommitter<ChangeEvent<byte[], byte[]>> committer)
            throws InterruptedException {
        Batch batch = new Batch(events, committer, new CountDownLatch(events.size()));
        for (ChangeEvent<byte[], byte[]> event : events) {
            producer.send(new ProducerRecord<>(event.destination(), event.key(), event.value()), (metadata, error) -> {
                if (error != null) {
                    error.printStackTrace();
                    Runtime.getRuntime().halt(EXIT_FAILED);
                }
                batch.unacknowledged().countDown();
            });
        }
        inFlight.addLast(batch);
        while (!inFlight.isEmpty()
                && (inFlight.size() > MOST_IN_FLIGHT || inFlight.peekFirst().unacknowledged().getCount() == 0)) {
            commit(inFlight.removeFirst());
        }
    }

    private static void commit(Batch batch) throws InterruptedException {
        batch.unacknowledged().await();
        for (ChangeEvent<byte[], byte[]> event : batch.events()) {
            batch.committer().markProcessed(event);
        }
        batch.committer().markBatchFinished();
    }

    public static void main(String[] arguments) throws Exception {
        Properties engine = new Properties();
        try (InputStream file = new FileInputStream(arguments[0])) {
            engine.load(file);
        }
        for (int n = 1; n < arguments.length; n++) {
            String[] pair = arguments[n].split("=", 2);
            engine.setProperty(pair[0], pair[1]);
        }
        Properties producing = new Properties();
        for (String name : engine.stringPropertyNames()) {
            if (name.startsWith("producer.")) {
                producing.setProperty(name.substring("producer.".length()), (String) engine.remove(name));
            }
        }
        KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(producing, new ByteArraySerializer(), new ByteArraySerializer());
        DebeziumToKafka sink = new DebeziumToKafka(producer);
        CountDownLatch ended = new CountDownLatch(1);
        DebeziumEngine<ChangeEvent<byte[], byte[]>> running = DebeziumEngine.create(JsonByteArray.class)
                .using(engine)
                .using((DebeziumEngine.CompletionCallback) (success, message, error) -> {
                    if (error != null) {
                        error.printStackTrace();
                    }
                })
                .notifying(sink::take)
                .build();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                running.close();
                ended.await(20, TimeUnit.SECONDS);
            } catch (Exception error) {
                error.printStackTrace();
            }
            producer.close();
        }));
        try {
            running.run();
        } finally {
            ended.countDown();
        }
    }
}
