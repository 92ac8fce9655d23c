"""From source to an artifact that the host can run: build, identity, ABI preflight, delta."""
