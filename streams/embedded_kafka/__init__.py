"""A real single-node Apache Kafka for demos, tests and trials."""
