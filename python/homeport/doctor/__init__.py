"""`deploy doctor`: checks for common faults, each with its fix.

These are the checks that run on the laptop; hostctl.doctor has the checks on the host, which one call runs.
"""
