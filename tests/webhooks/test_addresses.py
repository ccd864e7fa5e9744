"""Which addresses a webhook may reach."""

from ipaddress import ip_address

import pytest

from generation.webhooks.addresses import fault_of, is_public


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1",
        "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1",
        "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fec0::1", "ff0e::1", "2001:db8::1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "2002:7f00:1::", "64:ff9b::10.0.0.1",
        "64:ff9b:1::127.0.0.1", "2001:0:808:808:0:0:80ff:fffe",
    ],
)  # fmt: skip
def test_private_and_special_addresses_are_not_public_in_whatever_dress(address):
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "2002:808:808::", "64:ff9b::8.8.8.8"]
)
def test_addresses_of_the_internet_are_public(address):
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/", "https://example.org:8080/", "https://example.org:22/", "ftp://example.org/",
        "https:///path", "example.org", "", "https://user:secret@example.org/", "https://user@example.org/",
        "https://127.0.0.1/", "https://[::1]/", "https://[::ffff:10.0.0.1]/", "https://169.254.169.254/latest/",
        "https://example.org:port/", "https://[half/", "https://example.org/a b", "https://example.org/\r\nHost: x",
        "https://ex\u00e4mple.org/", f"https://example.org/{'x' * 2000}", "file:///etc/passwd",
    ],
)  # fmt: skip
def test_what_no_webhook_may_be_sent_to_is_refused_with_a_sentence(url):
    assert fault_of(url).endswith(".")


@pytest.mark.parametrize(
    "url",
    ["https://example.org/hook?token=1", "https://example.org:8443/", "https://8.8.8.8/", "https://xn--exmple-cua.org"],
)
def test_https_on_its_usual_ports_is_accepted(url):
    assert fault_of(url) is None


@pytest.mark.parametrize("url", ["http://127.0.0.1:9000/hook", "http://hooks.internal/", "https://[fd00::1]:444/"])
def test_closed_networks_may_allow_more(url, private_allowed):
    assert fault_of(url) is None


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http://user:secret@127.0.0.1/"])
def test_closed_networks_do_not_allow_everything(url, private_allowed):
    assert fault_of(url) is not None
