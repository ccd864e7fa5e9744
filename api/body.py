"""The body of a request, as far as it can be stored and sent back."""

import json
from typing import Any

from rest_framework.exceptions import ParseError
from rest_framework.request import Request


def body_of(request: Request) -> Any:
    """What was sent, parsed; raises ParseError for what has no end of brackets or is not Unicode text."""
    # Not in a parser: forms can bring lone surrogates too (charset=raw_unicode_escape), and those that the
    # check of the CSRF token has read already pass by the parsers.
    try:
        data = request.data
        json.dumps(data, ensure_ascii=False, default=str).encode()
    except RecursionError as error:
        raise ParseError("The body is nested too deeply.") from error
    except UnicodeError as error:
        raise ParseError("The body holds text that is not valid Unicode, for example half a surrogate pair.") from error
    return data
