"""What lies between the protocol and the transport: TLS, WebSocket, a proxy."""
