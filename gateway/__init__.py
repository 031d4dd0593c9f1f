"""Locum's acting half: listeners, store, tokens, journal. It asks `policy` before it lets staff through."""
