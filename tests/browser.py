"""A real browser for tests of pages: Chromium, as Debian packages it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver


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
