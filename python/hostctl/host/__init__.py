"""The host itself: systemd, ports, disk, accounts, TLS, credentials."""
