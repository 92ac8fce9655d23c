"""The edge: Caddy's configuration, certificates and the maintenance page."""
