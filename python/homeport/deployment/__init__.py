"""What the verbs that deploy share: provision, transition, preflight, notifications."""
