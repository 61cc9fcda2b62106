"""What runs a client: its tasks, its streams, and who waits for what."""
