"""The PostgreSQL engine: one cluster per app, archived to S3."""
