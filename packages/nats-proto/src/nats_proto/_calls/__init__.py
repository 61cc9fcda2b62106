"""What is done with a session: calls of several messages."""
