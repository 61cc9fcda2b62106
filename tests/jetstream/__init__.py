"""JetStream against real servers: acceptance tests, clusters with faults, and the checker of histories."""
