"""The host, reached over SSH: hostctl, sessions, tunnels."""
