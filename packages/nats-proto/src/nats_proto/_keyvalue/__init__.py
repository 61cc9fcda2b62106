"""Key-Value buckets on streams (ADR-8, ADR-48, ADR-57): names, values, operations, and the machine of a watch."""
