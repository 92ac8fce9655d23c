"""One running instance of a release: start, health, commands inside it, consoles."""
