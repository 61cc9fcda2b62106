"""What crosses the border to whoever runs a session: options, events, their log lines, statistics."""
