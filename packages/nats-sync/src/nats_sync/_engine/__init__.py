"""What runs a client: its threads, its sockets, and who waits for what."""
