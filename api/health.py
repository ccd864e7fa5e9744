"""Whether this web process lives, and whether it can do its work; open to everybody, and naming nothing and nobody."""

from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe

from api.errors import answer
from generation.condition import shortcomings


@require_safe
def live(request: HttpRequest) -> HttpResponse:
    """200 as long as the process answers at all; touches nothing."""
    return JsonResponse({"status": "ok"})


@require_safe
def ready(request: HttpRequest) -> HttpResponse:
    """200 when the database answers and its tables are up to date, else 503.

    What else does not do its work is told with the 200: requests are accepted all the same, and taking this process out
    of a balancer would not help.
    """
    try:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
        found = [] if missing else shortcomings()
    except Error:
        return answer(503, code="database_unavailable", detail="The database does not answer.")
    if missing:
        return answer(503, code="not_migrated", detail="The database is not up to date. Run `manage.py migrate`.")
    if found:
        reasons = [{"code": one.code, "detail": one.sentence} for one in found]
        return JsonResponse({"status": "degraded", "reasons": reasons})
    return JsonResponse({"status": "ok"})
