"""`manage.py create_key ada --name "nightly script"`: an API key, printed this once."""

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import CommandError, CommandParser

from api.models import LONGEST_NAME, ApiKey, Scope, default_scopes
from project.management.plain_command import PlainCommand

LONGEST_DAYS = 36500


class Command(PlainCommand):
    help = "Makes an API key for a user and prints it: only then, for only its digest is stored."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Whose key, what for, and for how long."""
        parser.add_argument("user", help="the name of the user whom it stands for")
        parser.add_argument("--name", required=True, help="what it is for, so that you know which one to revoke")
        parser.add_argument(
            "--scope",
            nargs="+",
            choices=Scope.values,
            default=default_scopes(),
            help=f"what it may be used for; {' and '.join(default_scopes())} unless said otherwise",
        )
        parser.add_argument(
            "--days", type=int, help="after so many days it is refused; left out: it works until revoked"
        )

    def handle(self, *args: Any, user: str, name: str, scope: list[str], days: int | None, **options: Any) -> None:
        """Print the key alone, so that a script can take it; what there is to say goes to the other stream."""
        owner = User.objects.filter(username=user, is_active=True).first()
        if owner is None:
            raise CommandError(f"There is no active user {user!r}. The admin and `manage.py createsuperuser` make one.")
        if not 1 <= len(name.strip()) <= LONGEST_NAME:
            raise CommandError(f"The name must have 1 to {LONGEST_NAME} characters.")
        if days is not None and not 1 <= days <= LONGEST_DAYS:
            raise CommandError(f"--days must be from 1 to {LONGEST_DAYS}.")
        expiry = None if days is None else timedelta(days=days)
        _, token = ApiKey.objects.create(user=owner, name=name.strip(), scopes=sorted(set(scope)), expiry=expiry)
        self.stderr.write("Copy the key now: it is not stored and not shown again. Revoke it in the admin.")
        self.stdout.write(token)
