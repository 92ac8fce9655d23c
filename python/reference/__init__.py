"""What of the docs is generated: deploy.yml's reference, example and JSON Schema, and the reference of the verbs."""
