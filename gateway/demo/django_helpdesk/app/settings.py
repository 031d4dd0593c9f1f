"""The helpdesk's settings, read from the environment.

HELPDESK_DATA (folder of the database and the uploads), HELPDESK_STATIC (folder of the collected static files),
HELPDESK_SECRET_KEY and three LOCUM_ settings of `locum_verify.django` are needed; HELPDESK_HOSTS is a list with commas.
"""

import os
from pathlib import Path

_data = Path(os.environ["HELPDESK_DATA"])

LOCUM_JWKS = os.environ["LOCUM_JWKS"]
LOCUM_ISSUER = os.environ["LOCUM_ISSUER"]
LOCUM_AUDIENCE = os.environ["LOCUM_AUDIENCE"]

DEBUG = False
SECRET_KEY = os.environ["HELPDESK_SECRET_KEY"]
ALLOWED_HOSTS = os.environ.get("HELPDESK_HOSTS", "127.0.0.1,localhost").split(",")
ROOT_URLCONF = "urls"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.sites",
    "django.contrib.staticfiles",
    "rest_framework",
    "helpdesk",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "locum_verify.django.AssertionMiddleware",
    "marked_tickets.only_marked",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "locum_verify.drf.AssertionAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ]
}

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": _data / "helpdesk.sqlite3",
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# The default falls back to the session for long messages, and an assumed request must not need one.
MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"
# Nothing here writes to anybody: the demonstration's customers do not exist.
EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"

STATIC_URL = "/static/"
STATIC_ROOT = Path(os.environ["HELPDESK_STATIC"])
MEDIA_URL = "/media/"
MEDIA_ROOT = _data / "media"
LOGIN_URL = "/login/"
LOGIN_REDIRECT_URL = "/dashboard/"
TIME_ZONE = "UTC"
USE_TZ = True
SITE_ID = 1

HELPDESK_TEAMS_MODE_ENABLED = False
