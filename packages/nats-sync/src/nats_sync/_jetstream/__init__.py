"""JetStream: streams, publishing, consuming. Loaded when a program asks for it first."""
