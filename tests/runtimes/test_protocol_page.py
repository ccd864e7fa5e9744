"""docs/protocol.md says what the code does, as far as a table can tell."""

import re
from pathlib import Path

from generation.engines.errors import EngineError
from generation.runtimes import packing
from generation.runtimes.frames import VERSION, Kind
from generation.runtimes.server.app import STATUS

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()


def subclasses(of: type[EngineError]) -> set[type[EngineError]]:
    """All of them, to the last generation."""
    return {known for child in of.__subclasses__() for known in {child, *subclasses(child)}}


def test_the_kinds_are_those_of_the_page():
    on_the_page = {name: int(number) for number, name in re.findall(r"^\| (\d+) \| `([A-Z]+)` \|", PAGE, re.MULTILINE)}

    assert on_the_page == {kind.name: kind.value for kind in Kind}
    assert f"It is version {VERSION}." in PAGE


def test_the_errors_and_their_answers_are_those_of_the_page():
    on_the_page = {code: int(status) for code, status in re.findall(r"^\| `([a-z_]+)` \| (\d+) \|", PAGE, re.MULTILINE)}

    for code, status in on_the_page.items():
        assert STATUS.get(code, 500) == status
        assert packing.unpack_error({"code": code, "detail": ""}).code == code
    assert {known.code for known in subclasses(EngineError)} == set(on_the_page)


def test_members_of_a_request_are_named_on_the_page():
    for name in (*packing.REQUEST_TYPES, *packing.SOURCE_TYPES, *packing.DIMENSIONS):
        assert f"`{name}`" in PAGE, name
