"""Topics and clients: options, checks, readers, and what lies in each of shoal's own topics."""
