"""What one of all workers does beside its partitions: learning, repartitioning; and the feed of models."""
