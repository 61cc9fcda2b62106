"""Programs that use JetStream, each complete. The tests run them against real servers."""
