"""Ansible actions that run on the controller."""
