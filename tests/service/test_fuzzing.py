"""schemathesis, with all its checks, finds nothing: as the owner of generations, as somebody else, and as nobody."""

import pytest

from tests.service.fuzzing import CALLERS, Extent, fuzz_as_everybody


@pytest.mark.databases("postgres")  # which refuses more: numbers, and text with a NUL in it
@pytest.mark.timeout(600)  # on a busy machine; each caller has a limit of its own
def test_every_described_operation_behaves_as_described(service):
    reports = list(fuzz_as_everybody(service, extent=Extent(examples=10, minutes=2)))

    assert len(reports) == len(CALLERS)
