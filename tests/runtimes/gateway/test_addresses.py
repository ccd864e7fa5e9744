"""The setting that names the servers of a pool."""

import pytest

from generation.runtimes.gateway.addresses import Upstream, parse_upstreams


def test_servers_of_both_kinds():
    parsed = parse_upstreams(["http://one:9000/", "openai+https://two/v1/", "openai+http://three:8000/v1?at_once=4"])

    assert parsed == (
        Upstream("pictor", "http://one:9000"),
        Upstream("openai", "https://two/v1", at_once=1),
        Upstream("openai", "http://three:8000/v1", at_once=4),
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("one:9000", "is no address"),
        ("ftp://one", "is no address"),
        ("http://", "is no address"),
        ("http://one:99999", "no number up to 65535"),
        ("http://one:8000/v1", "Write openai\\+http"),
        ("http://one?at_once=2", "Write openai\\+http"),
        ("openai+http://one/v1?at_once=0", "from 1 to 1000"),
        ("openai+http://one/v1?slots=2", "in no other option"),
        ("openai+http://key@one/v1", "PICTOR_GATEWAY_API_KEY"),
    ],
)
def test_what_is_no_server_is_told_in_a_sentence(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse_upstreams([text])


def test_a_server_that_comes_twice_is_a_mistake():
    with pytest.raises(ValueError, match="named twice"):
        parse_upstreams(["http://one:9000", "http://one:9000/"])
