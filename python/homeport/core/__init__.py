"""The ground floor of the controller: errors, packaged files, pinned programs, redaction."""
