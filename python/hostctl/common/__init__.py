"""What both sides use: pure functions and documents, without a host or a controller."""
