"""Users and groups in the theme of the other pages, and the page that the admin opens with."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as PlainGroupAdmin
from django.contrib.auth.admin import UserAdmin as PlainUserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from generation import inputs, operations
from generation.lifecycle import FINISHED
from generation.models import Generation

admin.site.index_title = "Overview"
admin.site.index_template = "admin/dashboard.html"
admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(PlainUserAdmin, ModelAdmin):
    """Users. With one go all of their generations and inputs, and the files of these."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    filter_horizontal = ["user_permissions"]
    autocomplete_fields = ["groups"]

    def get_deleted_objects(
        self, objs: Sequence[Any] | QuerySet[Any], request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[str]]:
        """Refuse while a worker may still be drawing for one of them."""
        unfinished = Generation.objects.filter(owner__in=[user.pk for user in objs]).exclude(status__in=FINISHED)
        reasons = [f"Generation {generation} is {generation.status}: cancel it first." for generation in unfinished]
        return ([], {}, set(), reasons) if reasons else super().get_deleted_objects(objs, request)

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        """Delete the user's generations by the domain's own operation, for it knows the files."""
        for generation in Generation.objects.owned_by(obj):
            operations.delete(generation)
        inputs.remove_all_of(obj)
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """The same for many."""
        for user in queryset:
            self.delete_model(request, user)


@admin.register(Group)
class GroupAdmin(PlainGroupAdmin, ModelAdmin):
    """Groups of rights."""
