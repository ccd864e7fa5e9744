"""How the admin looks: the setting of django-unfold (https://unfoldadmin.com/docs/configuration/settings/)."""

from typing import Any

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Pictor",
    "SITE_HEADER": "Pictor",
    "SITE_SUBHEADER": "Prompts become pictures",
    "SITE_URL": "/api/",
    "SITE_SYMBOL": "brush",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "project.pages.favicon"}],
    "SHOW_HISTORY": False,
    "SHOW_BACK_BUTTON": True,
    "SIDEBAR": {"navigation": "project.pages.sidebar"},
    "DASHBOARD_CALLBACK": "project.pages.dashboard",
}
