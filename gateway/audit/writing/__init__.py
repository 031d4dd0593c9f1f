"""Writing: one journal of one origin, from a record in memory to lines on a disk."""
