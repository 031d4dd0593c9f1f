"""The helpdesk at `/`, with the admin pages, the language form and the uploads that its templates link to."""
# Django lives in the app's environment, not in the one that mypy sees.
# mypy: disable-error-code="import-not-found"

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.decorators import login_required
from django.urls import include, path
from django.views.static import serve

urlpatterns = [
    path("admin/", admin.site.urls),
    path("i18n/", include("django.conf.urls.i18n")),
    path("media/<path:path>", login_required(serve), {"document_root": settings.MEDIA_ROOT}),
    path("", include("helpdesk.urls")),
]
