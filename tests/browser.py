"""A real browser for tests of pages: Chromium, as Debian packages it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select


@contextmanager
def chromium(downloads: Path) -> Iterator[webdriver.Chrome]:
    """A browser of its own that saves what a page exports to `downloads`."""
    paths = shutil.which("chromium"), shutil.which("chromedriver")
    assert all(paths), "no Chromium to test the page in: apt-get install chromium chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = str(paths[0])
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,1000"):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(paths[1])))
    try:
        yield driver
    finally:
        driver.quit()


class Reader:
    """Someone who looks at a page in a browser."""

    def __init__(self, browser: webdriver.Chrome, page: Path) -> None:
        self.browser = browser
        browser.get(page.as_uri())

    def find(self, id: str) -> WebElement:
        return self.browser.find_element(By.ID, id)

    def all(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def choose(self, id: str, option: str) -> None:
        Select(self.find(id)).select_by_visible_text(option)

    def refused(self) -> list[str]:
        return [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"]
