"""What the pages of the browsable API are called."""

from rest_framework.routers import APIRootView
from rest_framework.utils.formatting import camelcase_to_spaces
from rest_framework.views import APIView


def title_of(view: APIView) -> str:
    """By the name of the view's class: `Generations` for the list of a `GenerationViewSet`, `Generation` for one."""
    if isinstance(view, APIRootView):
        return "API"
    words = type(view).__name__.removesuffix("Set").removesuffix("View")
    title = camelcase_to_spaces(words).capitalize()
    if getattr(view, "suffix", None) != "List":
        return title
    return f"{title}es" if title.endswith("ch") else f"{title}s"
