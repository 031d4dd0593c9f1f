"""What the banner over the app's pages says: who stands in for whom, until when, and where that is ended."""

from gateway.assumptions.session import SESSION
from gateway.pages.render import Pages
from gateway.places import Places
from policy.model import Facts, Permit


class Painter:
    """Draws banners."""

    def __init__(self, pages: Pages, places: Places) -> None:
        self._pages = pages
        self._places = places

    def draw(self, permit: Permit, facts: Facts) -> bytes:
        """Return the banner's markup, in ASCII, so that it says the same in whatever charset the page is."""
        markup = self._pages.part(
            "banner.html",
            name=facts.staff.name if facts.staff else permit.actor.subject,
            agent=permit.subject,
            account=permit.account,
            until=permit.ends_at,
            ticket=facts.assumption.ticket if facts.assumption else "",
            # Whole: a page may say that what it names is to be looked for elsewhere (`base`).
            session=f"{self._places.of_account(permit.account)}{SESSION}",
        )
        return markup.strip().encode("ascii", "xmlcharrefreplace")
