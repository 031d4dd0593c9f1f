"""The data plane: what every request of every customer crosses."""
