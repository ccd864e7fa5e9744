"""What holds at the edges of every request to a program's endpoints, whichever view answers."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.utils.decorators import sync_only_middleware

from api.errors import answer

GetResponse = Callable[[HttpRequest], HttpResponse]
PAGES = "/admin/"


@sync_only_middleware
def problem_details(get_response: GetResponse) -> GetResponse:
    """Refuse what no database can look for, and say in words what Django says by a bare status."""

    def respond(request: HttpRequest) -> HttpResponse:
        if request.path.startswith(PAGES):
            return get_response(request)
        if "%00" in request.META.get("QUERY_STRING", ""):
            sentence = "The address must not contain NUL characters."
            return answer(400, code="bad_request", detail=sentence, path=request.path)
        response = get_response(request)
        if isinstance(response, HttpResponseNotAllowed):
            allowed = response["Allow"]
            sentence = f"{request.method} is not possible here. Possible: {allowed}."
            response = answer(405, code="method_not_allowed", detail=sentence, path=request.path)
            response["Allow"] = allowed
        return response

    return respond
