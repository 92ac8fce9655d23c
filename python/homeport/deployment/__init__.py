"""The work of the verbs that deploy: provisioning, transitions, preflight checks, notifications."""
