"""Grants: the facts that decisions rest on, how they change, and who hears of it."""
