"""A picture in a request: a file, the id of an input, or a result of an earlier generation."""

import json
from typing import Any
from uuid import UUID

from django.core.files.uploadedfile import UploadedFile
from rest_framework import serializers
from rest_framework.fields import empty
from rest_framework.utils import html

from generation.sources import EarlierImage, Source, StoredInput, Upload

MAX_INDEX = 32767  # what the column of an image's index holds


class PictureField(serializers.FileField):
    """A form sends a file, an id, or the JSON of an earlier result as text; JSON the latter two."""

    default_error_messages = {
        "no_picture": "Give the id of an input, an earlier image as {example}, or, in a form, a file."
    }
    example = '{"generation": "<id>", "index": 0}'

    def to_internal_value(self, data: Any) -> Source:  # type: ignore[override]  # no file comes out
        """Return what is meant; nothing is looked up or decoded yet."""
        if isinstance(data, UploadedFile):
            return Upload(data.read())
        if isinstance(data, str) and data.lstrip().startswith("{"):
            data = self.parse(data)
        if isinstance(data, dict):
            return self.earlier_image(data)
        return StoredInput(self.id_of(data))

    def parse(self, text: str) -> Any:
        """The JSON of an earlier result."""
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return self.refuse()

    def earlier_image(self, data: dict[str, Any]) -> EarlierImage:
        """The earlier result that is meant; the first image if none is named."""
        index = data.get("index", 0)
        is_known = set(data) <= {"generation", "index"} and "generation" in data
        if not is_known or type(index) is not int or not 0 <= index <= MAX_INDEX:
            return self.refuse()
        return EarlierImage(self.id_of(data["generation"]), index)

    def id_of(self, text: Any) -> UUID:
        """The id that a text is."""
        try:
            return UUID(text) if isinstance(text, str) else self.refuse()
        except ValueError:
            return self.refuse()

    def refuse(self) -> Any:
        """Say what would do."""
        return self.fail("no_picture", example=self.example)


class PicturesField(serializers.ListField):
    """Several pictures; a form may leave a field for them empty."""

    child = PictureField()

    def get_value(self, dictionary: Any) -> Any:
        """Return what was sent, without empty fields of a form."""
        sent = super().get_value(dictionary)
        is_form = html.is_html_input(dictionary) and sent is not empty
        return [entry for entry in sent if entry != ""] or empty if is_form else sent


def reference_to(source: StoredInput | EarlierImage) -> str | dict[str, Any]:
    """The same the other way round."""
    match source:
        case StoredInput(id=wanted):
            return str(wanted)
        case EarlierImage(generation_id=earlier, index=index):
            return {"generation": str(earlier), "index": index}
