"""The story that `locum demo` tells: what is done in which order, what must come of it, and how it is shown."""
