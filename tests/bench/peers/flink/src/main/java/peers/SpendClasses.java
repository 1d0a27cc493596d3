package peers;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Stream;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.TypeHint;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.api.java.tuple.Tuple3;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;

/** The job in Flink: a keyed process function over RocksDB, incremental checkpoints, an exactly-once sink. */
public final class SpendClasses {
    private SpendClasses() {}

    public static void main(String[] arguments) throws Exception {
        Map<String, String> run = System.getenv();
        Path folder = Path.of(run.get("PEER_FOLDER"));
        Path checkpoints = Files.createDirectories(folder.resolve("checkpoints"));
        Configuration settings = new Configuration();
        settings.setString("state.backend.type", "rocksdb");
        settings.setString("state.backend.rocksdb.localdir", folder.resolve("rocksdb").toString());
        settings.setString("execution.checkpointing.incremental", "true");
        settings.setString("execution.checkpointing.dir", checkpoints.toUri().toString());
        settings.setString("execution.checkpointing.mode", "EXACTLY_ONCE");
        settings.setString("execution.checkpointing.externalized-checkpoint-retention", "RETAIN_ON_CANCELLATION");
        settings.setString(
                "execution.checkpointing.interval", Math.round(1000 * Double.parseDouble(run.get("PEER_COMMIT"))) + " ms");
        settings.setString("pipeline.object-reuse", "true");
        // what a task manager has by default (taskmanager.memory.process.size 1728m): RocksDB lives in it
        settings.setString("taskmanager.memory.managed.size", "512m");
        newest(checkpoints).ifPresent(found ->
                settings.setString("execution.state-recovery.path", found.toUri().toString()));

        StreamExecutionEnvironment environment =
                StreamExecutionEnvironment.createLocalEnvironment(Integer.parseInt(run.get("PEER_THREADS")), settings);
        KafkaSource<Tuple3<String, Long, Long>> source = KafkaSource.<Tuple3<String, Long, Long>>builder()
                .setBootstrapServers(run.get("PEER_BOOTSTRAP"))
                .setTopics(run.get("PEER_EVENTS"))
                .setGroupId(run.get("PEER_NAME"))
                .setStartingOffsets(OffsetsInitializer.earliest())
                .setProperty("isolation.level", "read_committed")
                .setDeserializer(new Clicks())
                .build();
        KafkaSink<Tuple2<String, byte[]>> sink = KafkaSink.<Tuple2<String, byte[]>>builder()
                .setBootstrapServers(run.get("PEER_BOOTSTRAP"))
                .setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE)
                .setTransactionalIdPrefix(run.get("PEER_NAME"))
                .setProperty("transaction.timeout.ms", "600000")
                .setRecordSerializer(new Changes(run.get("PEER_CHANGES")))
                .build();
        environment
                .fromSource(source, WatermarkStrategy.noWatermarks(), "clicks")
                .uid("clicks")
                .keyBy(click -> click.f0, Types.STRING)
                .process(new Fold())
                .returns(new TypeHint<Tuple2<String, byte[]>>() {})
                .uid("users")
                .sinkTo(sink)
                .uid("changes");
        environment.execute("spend classes");
    }

    /** The folder of the newest checkpoint that is whole. */
    private static Optional<Path> newest(Path checkpoints) throws IOException {
        try (Stream<Path> files = Files.walk(checkpoints, 3)) {
            return files.filter(path -> path.endsWith("_metadata"))
                    .max(Comparator.comparingLong(path -> path.toFile().lastModified()))
                    .map(Path::getParent);
        }
    }

    private static final class Clicks implements KafkaRecordDeserializationSchema<Tuple3<String, Long, Long>> {
        @Override
        public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<Tuple3<String, Long, Long>> out)
                throws IOException {
            Event event = Event.parse(record.value());
            out.collect(Tuple3.of(new String(record.key(), StandardCharsets.UTF_8), event.time(), event.spend()));
        }

        @Override
        public TypeInformation<Tuple3<String, Long, Long>> getProducedType() {
            return Types.TUPLE(Types.STRING, Types.LONG, Types.LONG);
        }
    }

    private static final class Changes implements KafkaRecordSerializationSchema<Tuple2<String, byte[]>> {
        private final String topic;

        private Changes(String topic) {
            this.topic = topic;
        }

        @Override
        public ProducerRecord<byte[], byte[]> serialize(
                Tuple2<String, byte[]> change, KafkaSinkContext context, Long timestamp) {
            return new ProducerRecord<>(topic, change.f0.getBytes(StandardCharsets.UTF_8), change.f1);
        }
    }

    private static final class Fold
            extends KeyedProcessFunction<String, Tuple3<String, Long, Long>, Tuple2<String, byte[]>> {
        private transient ValueState<byte[]> stored;

        @Override
        public void open(OpenContext context) {
            stored = getRuntimeContext()
                    .getState(new ValueStateDescriptor<>(
                            "user", PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO));
        }

        @Override
        public void processElement(
                Tuple3<String, Long, Long> click, Context context, Collector<Tuple2<String, byte[]>> out)
                throws IOException {
            byte[] bytes = stored.value();
            UserState state = bytes == null ? new UserState() : new UserState(bytes);
            byte[] change = state.apply(click.f0, new Event(click.f1, click.f2));
            stored.update(state.toBytes());
            if (change != null) {
                out.collect(Tuple2.of(click.f0, change));
            }
        }
    }
}
