"""Where records go from here, each in its format: at least once, in order per origin, never in a request's way."""
