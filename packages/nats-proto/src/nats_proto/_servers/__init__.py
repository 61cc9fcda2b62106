"""Servers: their names and URLs, and which is tried next."""
