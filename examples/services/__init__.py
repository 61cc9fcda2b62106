"""Programs with services, each complete. The tests run them against real servers."""
