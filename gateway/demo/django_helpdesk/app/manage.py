"""The helpdesk's commands: `seed` makes a data folder, `counts` prints what must not change, the rest is Django's."""
# Django lives in the app's environment, not in the one that mypy sees.
# mypy: disable-error-code="import-not-found"

import json
import os
import sys
from pathlib import Path

import django
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.management import call_command, execute_from_command_line

# The agents of the account, by their user names; the first may also use the admin pages.
AGENTS = {
    "owner": ("Olivia", "Owner"),
    "maria": ("Maria", "Silva"),
    "jonas": ("Jonas", "Berg"),
    "aiko": ("Aiko", "Tanaka"),
    "samir": ("Samir", "Haddad"),
}
TICKETS = (
    ("Printer on floor 3 prints blank pages", "It began after the toner was changed.", "maria"),
    ("Cannot sign in from the new office", "The sign-in page says that our address is not allowed.", "jonas"),
    ("Invoice for October is missing", "We received the one for September twice.", None),
)


def main() -> None:
    """Run one command line."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
    match sys.argv[1:]:
        case ["seed"]:
            django.setup()
            seed(password=os.environ["HELPDESK_PASSWORD"])
        case ["counts"]:
            django.setup()
            print(json.dumps(counts()))
        case _:
            execute_from_command_line(sys.argv)


def seed(*, password: str) -> None:
    """Create the database with five agents, one queue and three tickets, and collect the static files."""
    Path(os.environ["HELPDESK_DATA"]).mkdir(parents=True)
    call_command("migrate", verbosity=0)
    call_command("loaddata", "emailtemplate", verbosity=0)
    call_command("collectstatic", interactive=False, verbosity=0)
    users = get_user_model().objects
    for name, (first, last) in AGENTS.items():
        create = users.create_superuser if name == "owner" else users.create_user
        create(name, f"{name}@acme.example", password, is_staff=True, first_name=first, last_name=last)
    queue = apps.get_model("helpdesk.Queue").objects.create(
        title="Support", slug="support", allow_public_submission=True
    )
    for title, description, agent in TICKETS:
        ticket = apps.get_model("helpdesk.Ticket").objects.create(
            queue=queue,
            title=title,
            description=description,
            submitter_email="customer@acme.example",
            assigned_to=users.get(username=agent) if agent else None,
        )
        ticket.followup_set.create(title="Ticket Opened", comment=description, public=True)


def counts() -> dict[str, int]:
    """Return how many users, sessions, users who ever logged in, tickets and follow-ups there are."""
    users = get_user_model().objects
    return {
        "users": users.count(),
        "sessions": apps.get_model("sessions.Session").objects.count(),
        "logins": users.exclude(last_login=None).count(),
        "tickets": apps.get_model("helpdesk.Ticket").objects.count(),
        "followups": apps.get_model("helpdesk.FollowUp").objects.count(),
    }


if __name__ == "__main__":
    main()
