"""deploy.secrets.yml: values of secrets, encrypted by Ansible Vault, in the app's own repository.

`box` encrypts a text, `text` is what is written in it, `password` is what opens it, `store` is the files of one
configuration, `editing` gives a person's editor the text, `check` compares names with what the app reads.
"""
