"""The stream to S3 by Litestream: its start, stop and restart, its monitor, and the drill."""
