"""Access to the host over SSH: hostctl, sessions, tunnels."""
