"""Removal: what may be taken out of the journal, by whom, and how that stays provable."""
