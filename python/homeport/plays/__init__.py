"""What the playbooks' action plugins do: each step of a push as a function, and the thin class that Ansible calls."""
