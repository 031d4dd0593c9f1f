"""How long staff wait for what is known of them and of the account; a leaf, so that the configuration may ask it."""

from typing import Final

FACTS_SECONDS: Final = 0.5
"""Staff would rather be refused than hang; a fetch that takes longer goes on, and the next request finds its answer."""
