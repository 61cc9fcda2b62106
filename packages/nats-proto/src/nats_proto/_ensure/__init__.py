"""Declarative set-up: streams, consumers and buckets as a program says that they are to be."""
