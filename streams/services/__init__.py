"""Services beside the partitions: learning and repartitioning, of which one worker is the owner; the feed of models."""
