"""Assumptions that staff begin, look at and end with a browser."""
