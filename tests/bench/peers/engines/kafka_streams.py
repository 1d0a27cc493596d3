"""Kafka Streams: kafka_streams/src/main/java/peers/SpendClasses.java."""

from __future__ import annotations

from tests.bench.peers.engine import JavaEngine

ENGINE = JavaEngine(
    name="Kafka Streams",
    version="kafka-streams 4.3.1",
    guarantee="exactly once",
    commit=0.1,
    note="processor over a RocksDB store with its cache (10 MiB) and changelog; heap 2 GiB",
    state_in_kafka=True,
    project="kafka_streams",
    main="peers.SpendClasses",
    options=("-Xmx2g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"),
)
