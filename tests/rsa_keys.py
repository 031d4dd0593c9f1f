"""RSA keys of the tests: made once in a process, for they take as long as a hundred requests."""

from functools import cache

from cryptography.hazmat.primitives.asymmetric import rsa


@cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """The one key of this length; whoever needs two that differ makes the other one."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)
