"""Routes that stay while their handlers are exchanged: an aiohttp application takes no new ones once it serves."""

from collections.abc import Awaitable, Callable, Iterable
from typing import cast

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
Offer = Iterable[web.AbstractRouteDef]


class Routes:
    """A fixed set of methods and paths, with the handlers of the day."""

    def __init__(self, offer: Offer) -> None:
        self._offered = [_plain(route) for route in offer]
        self._answers = _answers(self._offered)

    def application(self, *more: web.AbstractRouteDef) -> web.Application:
        """Return an application that serves these routes, and `more` whose handlers stay."""
        application = web.Application()
        application.add_routes([*map(self._lasting, self._offered), *more])
        return application

    def renew(self, offer: Offer) -> None:
        """Answer by these handlers from the next request on; raises ValueError if they are for other routes."""
        answers = _answers(map(_plain, offer))
        if answers.keys() != self._answers.keys():
            raise ValueError("the handlers are for other routes than those that are served")
        self._answers = answers

    def _lasting(self, route: web.RouteDef) -> web.RouteDef:
        key = (route.method, route.path)

        async def answer(request: web.Request) -> web.StreamResponse:
            return await self._answers[key](request)

        return web.RouteDef(route.method, route.path, answer, route.kwargs)


def _plain(route: web.AbstractRouteDef) -> web.RouteDef:
    if not isinstance(route, web.RouteDef):
        raise TypeError("only single routes can be exchanged")
    return route


def _answers(routes: Iterable[web.RouteDef]) -> dict[tuple[str, str], Answer]:
    return {(route.method, route.path): cast("Answer", route.handler) for route in routes}
