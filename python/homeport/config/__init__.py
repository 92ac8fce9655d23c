"""deploy.yml: found, merged with its destination, validated as a whole, and turned into host variables."""
