"""Assumptions for devices that have no browser of their own, such as a command line (RFC 8628)."""
