"""The journal of a transition, and the steps that it records."""
