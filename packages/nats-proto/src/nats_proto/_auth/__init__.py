"""Credentials: what a user may give, and how files and seeds are read."""
