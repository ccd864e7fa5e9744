"""Limits of single users, instead of what the settings say for everybody."""

from django.contrib import admin
from unfold.admin import ModelAdmin

from generation.models import UserLimits
from generation.models.limits import LimitFields

LIMITS = [field.name for field in LimitFields._meta.get_fields()]


@admin.register(UserLimits)
class UserLimitsAdmin(ModelAdmin):
    """The list and the form. To go back to the settings is to delete the row."""

    list_display = ["user", *LIMITS]
    list_select_related = ["user"]
    search_fields = ["user__username"]
    autocomplete_fields = ["user"]
    fieldsets = [
        (
            None,
            {
                "fields": ["user", *LIMITS],
                "description": "Empty: as the settings have it for every user. 0: nothing is limited.",
            },
        )
    ]
