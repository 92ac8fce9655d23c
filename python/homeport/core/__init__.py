"""What the rest of the controller builds on: errors, packaged files, pinned programs, redaction."""
