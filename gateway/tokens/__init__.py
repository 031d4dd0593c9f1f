"""The token service: keys, signing, verification, and the endpoint that exchanges."""
