"""What a route table cannot see: whether the ticket that somebody creates is marked as a test."""
# Django lives in the app's environment, not in the one that mypy sees.
# mypy: disable-error-code="import-not-found"

import json
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

MARK = "[test]"
_CREATES = frozenset({"/tickets/submit/", "/api/tickets/"})


def only_marked(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Refuse a new ticket of an assumption that may create test tickets only, unless its title begins with `[test]`."""

    def middleware(request: HttpRequest) -> HttpResponse:
        assertion = getattr(request, "locum", None)
        creates = request.method == "POST" and request.path in _CREATES
        if assertion is None or not creates or "tickets:write" in assertion.scopes:
            return get_response(request)
        if _title(request).startswith(MARK):
            return get_response(request)
        return HttpResponse(f"the title must begin with {MARK}\n", status=403, content_type="text/plain")

    return middleware


def _title(request: HttpRequest) -> str:
    if request.content_type != "application/json":
        return str(request.POST.get("title", ""))
    try:
        document = json.loads(request.body)
    except ValueError:
        return ""
    return str(document.get("title", "")) if isinstance(document, dict) else ""
