"""Homeport: deploys a Phoenix app to one server without downtime, and backs its database up to S3."""

__version__ = "0.1.0"
