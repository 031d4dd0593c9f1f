"""How long staff wait for what is known of them and of the account; a leaf, so that the configuration may ask it."""

from typing import Final

REFUSED_SECONDS: Final = 0.5
"""Within this staff have their answer, whatever is wrong with the store: they would rather be refused than hang."""
FACTS_SECONDS: Final = 0.45
"""So long facts are waited for, the rest is for the answer; a fetch that takes longer goes on, for the next request."""
