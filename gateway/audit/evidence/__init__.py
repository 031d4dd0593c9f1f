"""Evidence: what proves that the journal is whole, to whoever trusts nobody here."""
