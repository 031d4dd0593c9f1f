"""The log over HTTP: for those who may read it, and its checkpoints for everybody."""
