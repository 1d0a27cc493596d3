"""Keys lie where Kafka's own clients put them."""

from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2

from streams.processing.partitioner import partitions_of


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(1, 500))
def test_as_kafka_python_has_it(keys: list[bytes], partitions: int) -> None:
    assert partitions_of(keys, partitions).tolist() == [(murmur2(key) & 0x7FFFFFFF) % partitions for key in keys]


def test_as_the_java_client_has_it() -> None:
    # org.apache.kafka.common.utils.UtilsTest: murmur2 of these, made positive
    known = {
        b"21": -973932308,
        b"foobar": -790332482,
        b"a-little-bit-long-string": -985981536,
        b"a-little-bit-longer-string": -1486304829,
        b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
        b"abc": 479470107,
    }
    assert partitions_of(list(known), 1 << 31).tolist() == [value & 0x7FFFFFFF for value in known.values()]
