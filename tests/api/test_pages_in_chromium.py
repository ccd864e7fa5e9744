"""The browsable API in a real browser."""

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions as expected
from selenium.webdriver.support.ui import WebDriverWait

from generation.lifecycle import Status
from generation.models import Generation
from tests import factories

pytestmark = [pytest.mark.browser, pytest.mark.databases("sqlite"), pytest.mark.django_db(transaction=True)]


@pytest.fixture
def waiting(browser: Chrome) -> WebDriverWait:
    """Waits for what the page does by itself."""
    return WebDriverWait(browser, timeout=20)


@pytest.fixture
def visit(browser: Chrome, live_server, user, waiting: WebDriverWait):
    """`visit(path)` opens a page as ada."""

    def open_page(path: str) -> None:
        browser.get(live_server.url + path)

    open_page("/api/auth/login/?next=/api/generations/")
    browser.find_element(By.NAME, "username").send_keys("ada")
    browser.find_element(By.NAME, "password").send_keys(factories.PASSWORD)
    browser.find_element(By.NAME, "submit").click()
    waiting.until(expected.url_to_be(f"{live_server.url}/api/generations/"))
    return open_page


def test_a_prompt_is_submitted_in_the_form_and_its_page_follows(browser, visit, waiting, model):
    visit("/api/generations/")

    form = browser.find_element(By.CSS_SELECTOR, "#post-object-form form")
    form.find_element(By.NAME, "prompt").send_keys("a green frog")
    form.find_element(By.CSS_SELECTOR, "button").click()
    waiting.until(expected.presence_of_element_located((By.CSS_SELECTOR, "[data-live]")))

    generation = Generation.objects.get()
    assert browser.current_url.endswith(f"/api/generations/{generation.pk}/")
    # The page follows what happens, so an element that was found may be another one the next moment.
    waiting.until(expected.text_to_be_present_in_element((By.CLASS_NAME, "generation"), "number 1 in the queue"))


def test_the_raw_form_leads_to_the_generation_too(browser, visit, waiting, model):
    visit("/api/generations/")

    browser.find_element(By.NAME, "raw-tab").click()
    form = browser.find_element(By.CSS_SELECTOR, "#post-generic-content-form form")
    content = form.find_element(By.NAME, "_content")
    content.clear()
    content.send_keys('{"prompt": "a blue whale"}')
    form.find_element(By.CSS_SELECTOR, "button").click()
    waiting.until(expected.presence_of_element_located((By.CSS_SELECTOR, "[data-live]")))

    assert Generation.objects.get().prompt == "a blue whale"


def test_the_page_follows_a_generation_to_its_image(browser, visit, waiting):
    generation = factories.make_generation(status=Status.RUNNING, step=3)
    attempt = factories.make_attempt(generation=generation)
    visit(f"/api/generations/{generation.pk}/")

    Generation.objects.filter(pk=generation.pk).update(step=17)
    waiting.until(expected.text_to_be_present_in_element((By.CLASS_NAME, "generation"), "step 17 of 20"))

    generation.succeed(attempt, images=[factories.build_image(generation, attempt)])
    image = waiting.until(expected.visibility_of_element_located((By.CSS_SELECTOR, ".images img")))
    waiting.until(lambda browser: browser.execute_script("return arguments[0].naturalWidth", image) == 64)
    assert browser.find_elements(By.CSS_SELECTOR, "[data-live]") == []


def test_the_cancel_button_cancels(browser, visit, waiting):
    generation = factories.make_generation()
    visit(f"/api/generations/{generation.pk}/")

    browser.find_element(By.XPATH, "//button[text()='Cancel' and not(@data-dismiss)]").click()
    waiting.until(expected.presence_of_element_located((By.CLASS_NAME, "status-cancelled")))

    generation.refresh_from_db()
    assert generation.status == Status.CANCELLED


@pytest.mark.parametrize(("page", "part"), [("docs", ".opblock"), ("redoc", "[id^='operation']")])
def test_the_description_of_the_api_is_shown_without_the_internet(browser, live_server, waiting, page, part):
    browser.get(f"{live_server.url}/api/{page}/")

    waiting.until(expected.presence_of_element_located((By.CSS_SELECTOR, part)))

    loaded = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [
        name for name in loaded if not name.startswith((live_server.url, "data:", "blob:", "https://cdn.redoc"))
    ] == []


def test_swagger_ui_submits_for_who_is_logged_in(browser, visit, waiting, model):
    visit("/api/docs/")
    operation = "[id$='submit_generation']"

    waiting.until(expected.element_to_be_clickable((By.CSS_SELECTOR, f"{operation} .opblock-summary-control"))).click()
    waiting.until(expected.element_to_be_clickable((By.CSS_SELECTOR, f"{operation} .try-out__btn"))).click()
    waiting.until(expected.element_to_be_clickable((By.CSS_SELECTOR, f"{operation} .execute"))).click()
    waiting.until(lambda browser: Generation.objects.exists())

    assert Generation.objects.get().prompt == "a red apple"
