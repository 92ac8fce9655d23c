"""Notifications: events, messages, the queue and the webhooks."""
