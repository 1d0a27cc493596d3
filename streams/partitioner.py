"""Where Kafka's default partitioner places a key."""

from __future__ import annotations

from kafka.partitioner.default import murmur2


def placed(key: bytes, partitions: int) -> int:
    """The partition of a key: murmur2, as the Java client and kafka-python have it (librdkafka's default differs)."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)
