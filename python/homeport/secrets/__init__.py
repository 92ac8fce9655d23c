"""Values of secrets: deploy.secrets.yml (Ansible Vault, in the app's repository), the environment, and commands.

`ansible_vault` encrypts a text, `document` is that text, `password` opens it, `files` are the files of one
configuration, `editor` gives the text to a person's editor, `runtime_check` compares names with what the app reads.
"""
