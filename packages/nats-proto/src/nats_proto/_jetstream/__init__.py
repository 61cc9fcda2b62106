"""JetStream: values, errors, names, and the calls of its API."""
