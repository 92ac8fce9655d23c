"""What the demo and the end-to-end tests use to look at an app from outside: a load."""
