"""An UPDATE of one row that takes effect only if a condition holds at that moment."""

from typing import Any

from django.db.models import Model, Q


def update_if(row: Model, guard: Q, **changes: Any) -> bool:
    """Change the row if `guard` holds for it; the instance then shows what has changed.

    What the database has computed is read when somebody asks for it: most of it nobody does.
    """
    is_changed = bool(type(row)._default_manager.filter(guard, pk=row.pk).update(**changes))
    if is_changed:
        for name, value in changes.items():
            if hasattr(value, "resolve_expression"):
                row.__dict__.pop(name, None)  # as `del row.name`: Django reads it when it is asked for
            else:
                setattr(row, name, value)
    return is_changed
