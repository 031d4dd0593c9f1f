"""Makes pages of templates, and answers with them so that browsers run nothing and keep nothing; imports jinja2."""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from jinja2 import BaseLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined
from markupsafe import Markup

from gateway.refusals import REFUSALS
from policy.model import Deny
from policy.texts import shown

log = logging.getLogger(__name__)

SAFE_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Of whatever a page of ours asks for: kept nowhere, taken for nothing else, shown to no other site."""
_HEADERS = {
    **SAFE_HEADERS,
    "X-Frame-Options": "DENY",
    # Not less: without a referrer browsers would send `Origin: null` with a form that goes to an account's host.
    "Referrer-Policy": "strict-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Pages:
    """Renders templates of `gateway/pages/templates`.

    What is put in is escaped and hides nothing; what is missing is an error.
    """

    def __init__(self) -> None:
        self._templates = _templates()

    def part(self, template: str, **values: Any) -> Markup:
        """Return a piece of a page."""
        return Markup(self._templates.get_template(template).render(values))  # noqa: S704 - escaped by the template

    def page(
        self,
        template: str,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        form_action: Sequence[str] = (),
        scripts: bool = False,
        **values: Any,
    ) -> web.Response:
        """Return a whole page; its forms go to its own origin, and to those of `form_action`.

        With `scripts` it may load some of its origin; none ever stands in the page itself.
        """
        return web.Response(
            status=status,
            text=self._templates.get_template(template).render(values),
            content_type="text/html",
            charset="utf-8",
            headers={**_HEADERS, "Content-Security-Policy": _policy(form_action, scripts=scripts), **(headers or {})},
        )

    def message(self, title: str, *said: str, status: int, again: str | None = None, code: str = "") -> web.Response:
        """Return a page that says what has happened and what to do; `again` is where a button leads."""
        headers = {"Retry-After": "5"} if status == 503 else None
        return self.page("message.html", status=status, headers=headers, title=title, said=said, again=again, code=code)

    def refusal(self, deny: Deny, *, again: str | None = None, request_id: str = "") -> web.Response:
        """Return the page of a refusal: what `gateway.refusals` says about it."""
        refusal = REFUSALS[deny.reason]
        said = (f"{refusal.title[:1].upper()}{refusal.title[1:]}.", *((f"{deny.detail}.",) if deny.detail else ()))
        # 401 would need a challenge (RFC 9110 section 15.5.2); a person is told in words.
        status = 403 if refusal.status == 401 else refusal.status
        code = " · ".join(part for part in (str(deny.reason), request_id) if part)
        return self.message("Not let through", *said, status=status, again=again, code=code)


class Texts:
    """Renders texts of `gateway/pages/templates/notices`, or an operator's own in their place; nothing is escaped."""

    def __init__(self, clean: Callable[[object], str], directory: Path | None = None) -> None:
        """Put each value through `clean`; a text of `directory` that fails is logged, and ours is taken."""
        self._ours = _texts(PackageLoader("gateway.pages", "templates/notices"), clean)
        self._theirs = None if directory is None else _texts(FileSystemLoader(directory), clean)

    def text(self, template: str, **values: Any) -> str:
        """Return a text; what is missing in ours is an error of ours."""
        if self._theirs is not None and template in self._theirs.list_templates():
            try:
                return self._theirs.get_template(template).render(values)
            except Exception as error:  # noqa: BLE001 - a template can raise whatever there is
                log.error("the text `%s` of notices.templates fails, and ours is taken: %s", template, error)  # noqa: TRY400 - the operator's
        return self._ours.get_template(template).render(values)


def _texts(loader: BaseLoader, clean: Callable[[object], str]) -> Environment:
    return Environment(
        loader=loader,
        autoescape=False,  # noqa: S701 - plain text, whose values `clean` has made one line each
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=clean,
    )


@cache
def _templates() -> Environment:
    """Return our templates, each compiled once in a process: they are files of the package, and nobody changes them."""
    templates = Environment(
        loader=PackageLoader("gateway.pages", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
        auto_reload=False,
    )
    templates.filters["moment"] = _moment
    templates.filters["instant"] = _instant
    return templates


def _policy(form_action: Sequence[str], *, scripts: bool) -> str:
    """Return a content security policy under which nothing but our own style sheet, icon and maybe script is loaded."""
    forms = " ".join(("'self'", *form_action))
    loaded = "style-src 'self'; script-src 'self'; connect-src 'self'" if scripts else "style-src 'self'"
    return f"default-src 'none'; {loaded}; form-action {forms}; frame-ancestors 'none'; base-uri 'none'; img-src 'self'"


def _shown(value: object) -> object:
    """Return what a page puts in so that nothing in it hides or reorders its neighbours, not even out of a `bdi`."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else shown(value)


def _moment(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _instant(time: datetime) -> str:
    """Return a time as HTML's `datetime` has it."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
