"""What outlives a connection: subscriptions, what waits to be written, requests, the way to the next server."""
