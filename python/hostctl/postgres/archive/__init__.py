"""The archive of a cluster on S3: base backups, WAL, timelines, and their verification."""
