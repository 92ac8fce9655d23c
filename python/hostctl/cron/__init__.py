"""Scheduled jobs: their timers, runs and results."""
