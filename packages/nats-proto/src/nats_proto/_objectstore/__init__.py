"""Object Store: objects of any size in buckets, each cut into chunks that are messages of a stream (ADR-20)."""
