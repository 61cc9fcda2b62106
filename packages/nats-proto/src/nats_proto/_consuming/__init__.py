"""Reading from consumers: what is asked of a server, and what is made of its messages and statuses."""
