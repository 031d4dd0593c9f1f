"""Measures in the operator's own deployment what Locum promises."""
