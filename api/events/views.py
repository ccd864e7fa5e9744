"""The endpoints of live events: parse, one call inward, shape the answer."""

from functools import partial
from uuid import UUID

from asgiref.sync import async_to_sync
from django.core.handlers.asgi import ASGIRequest
from django.db.models import QuerySet, prefetch_related_objects
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.views import APIView

from api.authentication import authenticate_again, oversees, user_of
from api.errors import answer
from api.events.schema import a_stream
from api.events.stream import Look, View, stream
from api.generations.serializers import GenerationSerializer
from api.negotiation import WhateverIsAccepted
from api.rate_limits import limits_in_force
from generation.errors import LimitReached
from generation.events.event import END, EventId, status_event
from generation.events.hub import EventsUnavailable, this_hub
from generation.events.seats import Seat
from generation.models import Generation
from generation.models.positions import set_positions
from generation.quotas import Policy, Quota

MOST_IN_A_SNAPSHOT = 100
CONTENT_TYPE = "text/event-stream"
RETRY_AFTER_SECONDS = 5
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class EventsView(APIView):
    """Everything about one's own generations."""

    content_negotiation_class = WhateverIsAccepted

    @a_stream(operation_id="listen_to_all", summary="Listen to all of your generations", ends=False)
    def get(self, request: Request) -> HttpResponseBase:
        """Open a stream that goes on until either side ends it."""
        return open_stream(request, owner_id=user_of(request).pk, look=partial(look_at_all, request))


class GenerationEventsView(APIView):
    """Everything about one generation."""

    content_negotiation_class = WhateverIsAccepted

    @a_stream(operation_id="listen_to_generation", summary="Listen to one generation", ends=True)
    def get(self, request: Request, pk: UUID) -> HttpResponseBase:
        """Open a stream that ends with the generation; 204, for "do not come back", to who has heard the end."""
        generation = get_object_or_404(visible(request), pk=pk)
        if generation.is_finished and request.headers.get("Last-Event-ID", "").endswith(END):
            return HttpResponse(status=204)
        look = partial(look_at, request, pk)
        return open_stream(request, owner_id=generation.owner_id, look=look, generation_id=pk)


def open_stream(
    request: Request, *, owner_id: object, look: Look, generation_id: UUID | None = None
) -> HttpResponseBase:
    """The stream as an answer; 503 where there can be none, which is no error to be logged with its trace."""
    if not isinstance(request._request, ASGIRequest):
        return unavailable("Live events need an ASGI server. Serve project.asgi:application, for example by uvicorn.")
    try:
        async_to_sync(check_hub)()
        if request.method == "HEAD":
            return HttpResponse(content_type=CONTENT_TYPE, headers=HEADERS)
        seat = take_seat(request)
    except EventsUnavailable:
        return unavailable("Live events have no Redis right now. Look at the generation itself, or try again soon.")
    last_event_id = EventId.parse(request.headers.get("Last-Event-ID", ""))
    events = stream(owner_id=owner_id, generation_id=generation_id, look=look, last_event_id=last_event_id, seat=seat)
    return StreamingHttpResponse(events, content_type=CONTENT_TYPE, headers=HEADERS)


async def check_hub() -> None:
    """Raise EventsUnavailable unless the hub can reach Redis."""
    await this_hub().check()


def take_seat(request: Request) -> Seat | None:
    """A seat for one more stream, None for who may have any number; raises LimitReached, or EventsUnavailable."""
    limits = list(limits_in_force(request, Policy.EVENT_STREAMS, lambda limits: limits.event_streams))
    if not limits:
        return None
    seat, counts = async_to_sync(sit_down)([name for _, name, _ in limits])
    quotas = [
        Quota(policy=policy, limit=limit, used=used, asked=1, unit="streams", frees_in_seconds=RETRY_AFTER_SECONDS)
        for (policy, _, limit), used in zip(limits, counts, strict=True)
    ]
    if exceeded := [quota for quota in quotas if quota.is_exceeded]:
        async_to_sync(stand_up)(seat)
        raise LimitReached(exceeded)
    return seat


async def sit_down(names: list[str]) -> tuple[Seat, list[int]]:
    """A seat in the hub of this event loop, and how many are taken under each of the names."""
    return await this_hub().take_seat(names)


async def stand_up(seat: Seat) -> None:
    """Leave it."""
    await this_hub().leave_seat(seat)


def unavailable(detail: str) -> HttpResponseBase:
    """The problem detail that there are no live events."""
    response = answer(503, code="events_unavailable", detail=detail)
    response["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def visible(request: Request) -> QuerySet[Generation]:
    """The generations that the request may see."""
    return Generation.objects.all() if oversees(request) else Generation.objects.owned_by(user_of(request))


def look_at(request: Request, generation_id: UUID) -> View:
    """One generation as it is now, if the request may still see it."""
    authenticate_again(request)
    generation = visible(request).select_related("model").get(pk=generation_id)
    set_positions([generation])
    data = GenerationSerializer(generation, context={"request": request}).data
    return View(data, end=status_event(generation).all_data if generation.is_finished else None)


def look_at_all(request: Request) -> View:
    """All that the user has waiting or running, the oldest first; of very many only the beginning."""
    authenticate_again(request)
    unfinished = Generation.objects.owned_by(user_of(request)).unfinished()
    oldest = list(unfinished.select_related("model").order_by("arrival")[:MOST_IN_A_SNAPSHOT])
    set_positions(oldest)
    prefetch_related_objects([one for one in oldest if one.has_inputs], "inputs")
    shown = [GenerationSerializer(generation, context={"request": request}).data for generation in oldest]
    return View({"generations": shown, "count": unfinished.count()})
