"""What every other package needs: paths, the lock, the audit, the schema of documents."""
