"""What host and laptop share: errors, files, names, the artifact format, message formats and typed documents."""
