"""The project as a Django application: its commands, templates and checks."""

from django.apps import AppConfig


class ProjectConfig(AppConfig):
    """Registers the checks."""

    name = "project"

    def ready(self) -> None:
        """Called once Django is set up."""
        from project import checks  # noqa: F401  registers itself
