"""The configuration: what it holds, how it is read, what is refused."""
