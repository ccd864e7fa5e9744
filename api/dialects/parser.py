"""JSON that has pictures in it, as `data:` URLs."""

from collections.abc import Mapping
from io import BytesIO
from typing import IO, Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from rest_framework.parsers import BaseParser, JSONParser


class PicturesInJSON(BaseParser):
    """May be as large as a form with files; of DRF's own parser Django would take no more than of any body."""

    media_type = JSONParser.media_type

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """What was sent; raises ParseError, or RequestDataTooBig."""
        body = stream.read(settings.MAX_UPLOAD_BYTES + 1)
        if len(body) > settings.MAX_UPLOAD_BYTES:
            raise RequestDataTooBig
        return JSONParser().parse(BytesIO(body), media_type, parser_context)
