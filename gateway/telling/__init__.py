"""Tells the people whom it concerns: notices by e-mail and webhook, made of what the journal says."""
