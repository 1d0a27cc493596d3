"""What a partition publishes: records for each topic, and the buffer that collects them between two flushes."""
