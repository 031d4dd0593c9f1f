"""Locum's deciding half: pure functions over values. No clock, no file, no socket, no log, no await."""
