"""Flink: flink/src/main/java/peers/SpendClasses.java, in the local environment (the distribution is not in Maven)."""

from __future__ import annotations

from tests.bench.peers.engine import JavaEngine

# as the distribution's own configuration opens them for Java 17
OPENED = ("java.lang", "java.net", "java.io", "java.nio", "java.text", "java.time", "java.util", "java.util.concurrent")

ENGINE = JavaEngine(
    name="Flink",
    version="flink 2.2.1, flink-connector-kafka 5.0.0-2.2",
    guarantee="exactly once",
    commit=1.0,
    note="local environment; RocksDB, incremental checkpoints on the local disk; heap 2 GiB, managed memory 512 MiB",
    state_in_kafka=False,
    settle=5.0,
    project="flink",
    main="peers.SpendClasses",
    options=(
        "-Xmx2g",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED),
    ),
)
