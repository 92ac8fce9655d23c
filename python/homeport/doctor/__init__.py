"""`deploy doctor`: everything that commonly goes wrong, each with what mends it.

What is asked from here is here; what is so on the host is hostctl.doctor, in one call.
"""
