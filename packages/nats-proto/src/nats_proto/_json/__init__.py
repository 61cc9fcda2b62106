"""Values that are JSON on the wire, for JetStream and for services."""
