"""The body of a request, as far as it can be stored and sent back."""

import json
import sys
from collections.abc import Mapping
from typing import Any

from django.http import QueryDict
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ParseError
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


def check_types(fields: Mapping[str, serializers.Field], data: Any) -> None:
    """Raise ValidationError for members of JSON that are not of the type that is described.

    DRF's fields also take "12" for 12 and 12 for "12", which forms need; in JSON it hides a client's mistake.
    """
    if not isinstance(data, Mapping) or isinstance(data, QueryDict):
        return
    wrong = {
        name: [ErrorDetail(f"This must be {type_name}.", code="wrong_type")]
        for name, field in fields.items()
        if name in data and (type_name := missed_type(field, data[name]))
    }
    if wrong:
        raise serializers.ValidationError(wrong)


def missed_type(field: serializers.Field, value: Any) -> str | None:
    """The name of the JSON type that `field` wants and `value` has not; null is left to the field."""
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    is_whole = is_number and value == value // 1
    match field:
        case serializers.BooleanField():
            return None if isinstance(value, bool) else "true or false"
        case serializers.IntegerField():
            return None if is_whole else "a whole number"
        case serializers.FloatField():
            return None if is_number and abs(value) <= sys.float_info.max else "a number that is not too large"
        case serializers.MultipleChoiceField():
            return None if isinstance(value, list) else "a list of choices"
        case serializers.ChoiceField():
            return None if any(isinstance(choice, type(value)) for choice in field.choices) else "one of the choices"
        case serializers.CharField():
            return None if isinstance(value, str) else "a text"
    return None
