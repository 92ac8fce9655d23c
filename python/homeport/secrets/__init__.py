"""Secret values: Ansible Vault, passwords, resolution, rotation."""
