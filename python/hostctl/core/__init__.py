"""The ground floor of the host side: errors, files, paths, the lock, the audit."""
