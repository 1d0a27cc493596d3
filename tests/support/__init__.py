"""What the tests share: the broker, worker processes, events and senders, decoders, oracles."""
