"""The admin in a real browser."""

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions as expected
from selenium.webdriver.support.ui import WebDriverWait

from generation.lifecycle import Status
from generation.models import Generation
from tests import factories

LIST = "/admin/generation/generation/"

pytestmark = [pytest.mark.browser, pytest.mark.databases("sqlite"), pytest.mark.django_db(transaction=True)]


@pytest.fixture
def waiting(browser: Chrome) -> WebDriverWait:
    """Waits for what the page does by itself."""
    return WebDriverWait(browser, timeout=20)


@pytest.fixture
def visit(browser: Chrome, live_server, staff, waiting: WebDriverWait):
    """`visit(path)` opens a page as an operator."""

    def open_page(path: str) -> None:
        browser.get(live_server.url + path)

    open_page("/admin/login/?next=/admin/")
    browser.find_element(By.NAME, "username").send_keys(staff.username)
    browser.find_element(By.NAME, "password").send_keys(factories.PASSWORD)
    browser.find_element(By.CSS_SELECTOR, "#login-form button").click()
    waiting.until(expected.url_to_be(f"{live_server.url}/admin/"))
    return open_page


def test_the_list_shows_the_thumbnails(browser, visit, waiting):
    factories.make_image(generation=factories.make_generation(status=Status.SUCCEEDED))
    visit(LIST)

    image = browser.find_element(By.CSS_SELECTOR, "#result_list img")

    waiting.until(lambda browser: browser.execute_script("return arguments[0].naturalWidth", image) == 16)


def test_a_dialog_asks_before_a_generation_is_cancelled(browser, visit, waiting):
    generation = factories.make_generation()
    visit(f"{LIST}{generation.pk}/change/")

    browser.find_element(By.CSS_SELECTOR, f"a[href='{LIST}{generation.pk}/cancel/']").click()
    waiting.until(expected.element_to_be_clickable((By.XPATH, "//*[contains(text(), 'Yes, cancel it')]"))).click()
    waiting.until(expected.text_to_be_present_in_element((By.ID, "main"), "1 generation cancelled."))

    assert Generation.objects.get().status == Status.CANCELLED


def test_ticked_generations_are_deleted_after_a_question(browser, visit, waiting):
    factories.make_generation(status=Status.SUCCEEDED)
    factories.make_generation(status=Status.RUNNING)
    visit(LIST)

    browser.find_element(By.ID, "action-toggle").click()
    actions = waiting.until(expected.visibility_of_element_located((By.NAME, "action")))
    actions.find_element(By.CSS_SELECTOR, "option[value='delete_selected']").click()
    waiting.until(expected.element_to_be_clickable((By.CSS_SELECTOR, "button[name='index']"))).click()
    waiting.until(expected.text_to_be_present_in_element((By.ID, "content"), "1 generation succeeded"))
    browser.find_element(By.CSS_SELECTOR, "#content button[type='submit']").click()
    waiting.until(expected.text_to_be_present_in_element((By.ID, "main"), "1 generation deleted with all files."))

    assert Generation.objects.get().status == Status.RUNNING
