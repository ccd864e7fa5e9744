"""The page of a generation that follows its events, on a real server in a real browser."""

import time

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions as expected
from selenium.webdriver.support.ui import WebDriverWait

from generation.engines.types import Progress
from generation.events import streams
from generation.events.progress import ProgressReport
from generation.events.publisher import tell
from generation.lifecycle import Status
from tests import factories
from tests.fakes import RedPreview
from tests.serving import serving

pytestmark = [pytest.mark.browser, pytest.mark.databases("sqlite"), pytest.mark.django_db(transaction=True)]


@pytest.fixture
def waiting(browser):
    """Waits for what the page does by itself."""
    return WebDriverWait(browser, timeout=20)


@pytest.fixture
def address(broker, browser, client, user):
    """The server's address, with ada logged in."""
    client.force_login(user)
    with serving() as address:
        browser.get(f"{address}/health/live")
        browser.add_cookie({"name": "sessionid", "value": client.cookies["sessionid"].value})
        yield address
        browser.get("about:blank")


def test_the_page_shows_progress_and_preview_as_they_happen_and_then_the_image(address, broker, browser, waiting):
    generation = factories.make_generation()
    browser.get(f"{address}/api/generations/{generation.pk}/")
    waiting.until(lambda _: broker.zscore(streams.listeners(), f"generation:{generation.pk}"))

    generation.status = Status.RUNNING
    generation.save()
    attempt = factories.make_attempt(generation=generation)
    tell(generation)
    waiting.until(expected.visibility_of_element_located((By.CLASS_NAME, "status-running")))
    report, steps = ProgressReport(generation), iter(range(1, 20))

    def make_steps(_) -> bool:
        report.on_step(Progress(step=min(17, next(steps, 17)), total=20, offers=RedPreview()))
        time.sleep(0.1)
        return "step 17 of 20" in browser.find_element(By.CLASS_NAME, "whereabouts").text

    waiting.until(make_steps)
    preview = waiting.until(expected.visibility_of_element_located((By.CSS_SELECTOR, ".preview img")))
    waiting.until(lambda _: browser.execute_script("return arguments[0].naturalWidth", preview) == 256)
    assert browser.find_element(By.CSS_SELECTOR, ".generation progress").get_attribute("value") == "17"

    generation.succeed(attempt, images=[factories.build_image(generation, attempt)])
    tell(generation)
    image = waiting.until(expected.visibility_of_element_located((By.CSS_SELECTOR, ".images a img")))
    waiting.until(lambda _: browser.execute_script("return arguments[0].naturalWidth", image) == 64)
    assert browser.find_elements(By.CSS_SELECTOR, "[data-live]") == []
