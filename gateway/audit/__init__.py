"""The journal: what staff did and were refused, kept so that a change of it is found."""
