"""The security team's console, on the admin listener."""
