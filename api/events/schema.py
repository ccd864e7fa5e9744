"""What the description of the API says about live events. Nothing here runs in a request."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema

STREAM = {(200, "text/event-stream"): OpenApiTypes.STR}
LAST_EVENT_ID = OpenApiParameter(
    "Last-Event-ID", str, OpenApiParameter.HEADER, description="Go on after the event with this `id`."
)
HEARD = OpenApiResponse(description="It has ended and you have heard so: do not come back.")


def a_stream(*, operation_id: str, summary: str, ends: bool) -> Any:
    """The declaration of an endpoint that answers with server-sent events."""
    responses = STREAM | ({204: HEARD} if ends else {})
    return extend_schema(operation_id=operation_id, summary=summary, parameters=[LAST_EVENT_ID], responses=responses)
