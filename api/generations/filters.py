"""Filters of the list of generations."""

from django_filters import rest_framework as filters

from generation.lifecycle import STATUS_CHOICES
from generation.models import DiffusionModel, Generation


class GenerationFilters(filters.FilterSet):
    """`?status=`, `?model=`, `?created_after=` and `?created_before=`."""

    status = filters.MultipleChoiceFilter(choices=STATUS_CHOICES, help_text="May be given several times.")
    model = filters.ModelChoiceFilter(
        queryset=DiffusionModel.objects.all(), to_field_name="slug", help_text="A model's slug."
    )
    created_after = filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="gt", help_text="ISO 8601.")
    created_before = filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="lt", help_text="ISO 8601.")

    class Meta:
        model = Generation
        fields = ["status", "model", "created_after", "created_before"]
