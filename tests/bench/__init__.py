"""Benches on the embedded Kafka: `make bench`, `make profile`, and `python -m tests.bench.latency` and `.memory`."""
