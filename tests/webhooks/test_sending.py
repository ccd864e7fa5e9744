"""The POST itself: where it connects, how long it waits, how much it reads."""

import itertools
import socket
import ssl
from threading import Thread

import pytest
import trustme

from generation.webhooks import addresses, sending
from generation.webhooks.sending import AddressRefused, SendingFailed, post, retry_after_seconds
from tests.ports import free_port
from tests.receiver import receiving

PUBLIC, PRIVATE = "127.0.0.2", "127.0.0.1"  # what these tests take for public and for private


class Resolver:
    """Stands in for the name servers: gives its answers one after the other, the last one for ever."""

    def __init__(self, monkeypatch, *answers: list[str]) -> None:
        self.answers = itertools.chain(answers, itertools.repeat(answers[-1]))
        self.questions = 0
        self.real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self.getaddrinfo)

    def getaddrinfo(self, host, port, *args, **kwargs):
        if host != "receiver.test":
            return self.real(host, port, *args, **kwargs)
        self.questions += 1
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in next(self.answers)]


@pytest.fixture
def port(monkeypatch):
    """A free port, the only one that webhooks may use."""
    number = free_port()
    monkeypatch.setattr(addresses, "PORTS", (number,))
    return number


@pytest.fixture
def loopback_has_a_public_side(monkeypatch):
    monkeypatch.setattr(sending, "is_public", lambda address: str(address) == PUBLIC)


@pytest.fixture
def tls(monkeypatch, tmp_path):
    """A certificate for receiver.test, of an authority that is trusted for the test."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("receiver.test").configure_cert(context)
    return context


@pytest.mark.usefixtures("loopback_has_a_public_side")
def test_a_name_server_that_changes_its_mind_leads_to_the_address_that_was_checked(monkeypatch, port, tls):
    resolver = Resolver(monkeypatch, [PUBLIC], [PRIVATE])

    with receiving(host=PUBLIC, port=port, tls=tls) as public, receiving(host=PRIVATE, port=port, tls=tls) as private:
        answer = post(f"https://receiver.test:{port}/hook", "{}", headers={})

        assert answer.status_code == 200
        assert public.next().headers["host"] == f"receiver.test:{port}"
        assert private.requests.empty()
    assert resolver.questions == 1


@pytest.mark.usefixtures("loopback_has_a_public_side")
def test_of_several_addresses_only_public_ones_are_tried(monkeypatch, port, tls):
    Resolver(monkeypatch, [PRIVATE, PUBLIC])

    with receiving(host=PUBLIC, port=port, tls=tls) as public, receiving(host=PRIVATE, port=port, tls=tls) as private:
        post(f"https://receiver.test:{port}/hook", "{}", headers={})

        assert public.next().body == "{}"
        assert private.requests.empty()


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "10.0.0.1"])
def test_a_name_that_leads_into_the_private_network_is_not_followed(monkeypatch, port, address):
    Resolver(monkeypatch, [address])

    with socket.create_server((PRIVATE, port)) as listener:
        listener.setblocking(False)
        with pytest.raises(AddressRefused):
            post(f"https://receiver.test:{port}/", "{}", headers={})

        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.usefixtures("loopback_has_a_public_side")
def test_a_certificate_for_another_name_is_refused(monkeypatch, port, tls):
    Resolver(monkeypatch, [PUBLIC])
    monkeypatch.delenv("SSL_CERT_FILE")

    with receiving(host=PUBLIC, port=port, tls=tls) as public:
        with pytest.raises(SendingFailed, match="certificate"):
            post(f"https://receiver.test:{port}/", "{}", headers={})

        assert public.requests.empty()


def test_a_url_that_the_settings_no_longer_allow_is_not_sent_to(port):
    with pytest.raises(AddressRefused):
        post(f"http://{PRIVATE}:{port}/", "{}", headers={})


def test_a_name_that_does_not_exist_is_a_failure(monkeypatch, port):
    def refuse(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)

    with pytest.raises(SendingFailed):
        post(f"https://receiver.test:{port}/", "{}", headers={})


def test_a_redirect_is_not_followed(receiver):
    receiver.answer(307, Location=receiver.url)

    assert post(receiver.url, "{}", headers={}).status_code == 307
    assert receiver.requests.qsize() == 1


def test_of_an_answer_only_the_beginning_is_read(receiver):
    receiver.answer(200, b"x" * 10_000_000)

    assert post(receiver.url, "{}", headers={}).body == "x" * sending.LONGEST_ANSWER


def test_an_answer_that_drips_is_given_up(private_allowed, monkeypatch):
    monkeypatch.setattr(sending, "TOTAL_SECONDS", 0.3)
    with socket.create_server((PRIVATE, 0)) as listener:

        def drip():
            connection, _ = listener.accept()
            with connection:
                try:
                    connection.sendall(b"HTTP/1.1 200 OK\r\n")
                    while True:
                        connection.sendall(b"X-Drop: 1\r\n")
                except OSError:
                    return

        thread = Thread(target=drip)
        thread.start()
        with pytest.raises(SendingFailed):
            post(f"http://{PRIVATE}:{listener.getsockname()[1]}/", "{}", headers={})
        thread.join(10)


def test_a_receiver_that_never_answers_is_given_up(receiver, monkeypatch):
    monkeypatch.setattr(sending, "TOTAL_SECONDS", 0.3)
    receiver.may_answer.clear()

    with pytest.raises(SendingFailed, match="within"):
        post(receiver.url, "{}", headers={})


def test_a_receiver_that_is_not_there_is_a_failure(private_allowed):
    with pytest.raises(SendingFailed):
        post(f"http://{PRIVATE}:{free_port()}/", "{}", headers={})


def test_no_proxy_of_the_environment_is_used(receiver, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://{PRIVATE}:{free_port()}")
    monkeypatch.setenv("ALL_PROXY", f"http://{PRIVATE}:{free_port()}")

    assert post(receiver.url, "{}", headers={}).status_code == 200


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120), ("0", 0), ("99999999", 86400), ("Thu, 01 Jan 1970 00:01:40 GMT", 50), ("soon", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0), ("-5", None), ("", None), ("²", None),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(value, seconds):
    headers = [(b"Retry-After", value.encode("latin-1"))]

    assert retry_after_seconds(headers, now=50) == seconds
