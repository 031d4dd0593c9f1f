"""One process or several: how they start, hear of signals and new configurations, and stop."""
