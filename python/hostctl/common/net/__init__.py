"""Connections: HTTP, TLS, certificates, webhooks, and the relay of a stream."""
