"""The vendor's identity provider of the tests' worlds, without the wait for new RSA keys in each."""

from functools import cache

from gateway.demo.issuer import DemoIssuer


@cache
def _made() -> DemoIssuer:
    return DemoIssuer()


class WorldIssuer(DemoIssuer):
    """Signs with keys that are made once for all worlds of this process; a rotation makes new ones, for it alone.

    Where a test needs a second provider with keys of its own, that one is a `DemoIssuer`.
    """

    def rotate(self, *, overlap: bool = True) -> None:
        if self._signing:
            super().rotate(overlap=overlap)
            return
        self._signing = dict(_made()._signing)
        self._published = list(_made()._published)
