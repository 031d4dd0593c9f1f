"""Who is there, for an app behind Locum: the assertion of each request, verified, and nobody logged in."""

from locum_verify.assertion import HEADER, Assertion, Refused, Verifier
from locum_verify.keys import KeySet

__all__ = ["HEADER", "Assertion", "KeySet", "Refused", "Verifier"]
