"""One file per verb of `deploy`; each exposes `command`."""
