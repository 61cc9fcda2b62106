"""One transport connection: handshake, keep-alive, what the server reports."""
