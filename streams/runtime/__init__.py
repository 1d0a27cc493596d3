"""The worker: partitions from their assignment to their last flush, and the process around them."""
