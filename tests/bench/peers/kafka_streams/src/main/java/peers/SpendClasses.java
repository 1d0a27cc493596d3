package peers;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.ProcessorSupplier;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/** The job in Kafka Streams: a processor over a persistent, cached and logged store, exactly once. */
public final class SpendClasses {
    private static final String STORE = "users";

    private SpendClasses() {}

    public static void main(String[] arguments) {
        Map<String, String> run = System.getenv();
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, run.get("PEER_NAME"));
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, run.get("PEER_BOOTSTRAP"));
        settings.put(StreamsConfig.STATE_DIR_CONFIG, run.get("PEER_FOLDER"));
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, run.get("PEER_THREADS"));
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, Math.round(1000 * Double.parseDouble(run.get("PEER_COMMIT"))));
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");

        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(run.get("PEER_EVENTS"), Consumed.with(Serdes.String(), Serdes.ByteArray()))
                .process(new Supplier())
                .to(run.get("PEER_CHANGES"), Produced.with(Serdes.String(), Serdes.ByteArray()));
        KafkaStreams streams = new KafkaStreams(builder.build(), settings);
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return null;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }

    private static final class Supplier implements ProcessorSupplier<String, byte[], String, byte[]> {
        @Override
        public Processor<String, byte[], String, byte[]> get() {
            return new Fold();
        }

        @Override
        public Set<StoreBuilder<?>> stores() {
            return Set.of(Stores.keyValueStoreBuilder(
                            Stores.persistentKeyValueStore(STORE), Serdes.String(), Serdes.ByteArray())
                    .withCachingEnabled());
        }
    }

    private static final class Fold implements Processor<String, byte[], String, byte[]> {
        private ProcessorContext<String, byte[]> context;
        private KeyValueStore<String, byte[]> users;

        @Override
        public void init(ProcessorContext<String, byte[]> context) {
            this.context = context;
            this.users = context.getStateStore(STORE);
        }

        @Override
        public void process(Record<String, byte[]> click) {
            String user = click.key();
            byte[] stored = users.get(user);
            UserState state = stored == null ? new UserState() : new UserState(stored);
            byte[] change;
            try {
                change = state.apply(user, Event.parse(click.value()));
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
            users.put(user, state.toBytes());
            if (change != null) {
                context.forward(click.withValue(change));
            }
        }
    }
}
