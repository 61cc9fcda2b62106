"""Services (ADR-32): names, what they answer to monitors, their counters, their errors, and how they are found."""
