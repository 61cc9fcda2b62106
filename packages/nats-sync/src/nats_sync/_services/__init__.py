"""Services: endpoints that answer requests, what monitors are told, and how services are found."""
