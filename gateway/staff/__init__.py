"""The vendor's staff: their identity provider, and who of them may stand in."""
