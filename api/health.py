"""Whether this web process lives, and whether it can do its work; open to everybody, and saying nothing else."""

from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe

from api.errors import answer


@require_safe
def live(request: HttpRequest) -> HttpResponse:
    """200 as long as the process answers at all; touches nothing."""
    return JsonResponse({"status": "ok"})


@require_safe
def ready(request: HttpRequest) -> HttpResponse:
    """200 when the database answers and its tables are up to date, else 503."""
    try:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except Error:
        return answer(503, code="database_unavailable", detail="The database does not answer.")
    if missing:
        return answer(503, code="not_migrated", detail="The database is not up to date. Run `manage.py migrate`.")
    return JsonResponse({"status": "ok"})
