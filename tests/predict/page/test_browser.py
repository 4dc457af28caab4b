"""The page in a real browser: upload, segments, a slider, a segment switched off, files."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mask2former.predict.page.service import Service
from tests.predict.page.conftest import write_photo

selenium = pytest.importorskip("selenium", reason="Selenium is not installed")
pytest.importorskip("gradio", reason="Gradio (the extra app) is not installed")

from selenium.common.exceptions import StaleElementReferenceException  # noqa: E402
from selenium.webdriver import ActionChains, Chrome, ChromeOptions  # noqa: E402
from selenium.webdriver.chrome.service import Service as Driver  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

from tests.predict.page.test_page import opened  # noqa: E402

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
SECONDS = 60  # to wait for anything, also on a busy machine

pytestmark = [
    pytest.mark.skipif(not BROWSER or not DRIVER, reason="no chromium with its chromedriver"),
    pytest.mark.timeout(400),
]


@pytest.fixture(scope="module")
def got(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the browser puts what is downloaded."""
    return tmp_path_factory.mktemp("got")


@pytest.fixture(scope="module")
def browser(got: Path) -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = BROWSER
    for option in (*OPTIONS, "--window-size=1500,1200", "--disable-background-networking"):
        options.add_argument(option)
    options.add_experimental_option("prefs", {"download.default_directory": str(got)})
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = Chrome(options=options, service=Driver(DRIVER))
    yield driver
    driver.quit()


class User:
    """Somebody in front of the browser."""

    def __init__(self, browser: Chrome):
        self.browser = browser

    def find(self, selector: str) -> list[Any]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def wait(self, condition: Callable[[], Any]) -> Any:
        ignored = [StaleElementReferenceException, IndexError]
        waiting = WebDriverWait(self.browser, SECONDS, ignored_exceptions=ignored)
        return waiting.until(lambda _: condition())

    def titles(self, kind: str) -> list[str]:
        found = self.find(f"#picture-{kind} path title")
        return [title.get_attribute("textContent") for title in found]

    def set_slider(self, number: int, value: float) -> None:
        box = self.find("input[type=number]")[number]
        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(str(value), Keys.TAB)


def requests_of(browser: Chrome) -> set[str]:
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return {params["request"]["url"] for params in sent}


def test_upload_slider_switch_files(
    service: Service,
    browser: Chrome,
    got: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = []
    extract = service.predictor.model.extract
    monkeypatch.setattr(
        service.predictor.model, "extract", lambda images: runs.append(1) or extract(images)
    )
    user, photo = User(browser), write_photo(tmp_path / "mine.png")
    with opened(service) as url:
        browser.get(url)
        user.wait(lambda: user.find("input[type=file]"))[0].send_keys(str(photo))
        panoptic = user.wait(lambda: user.titles("panoptic"))
        assert all(re.search(r" \d+%, [\d,]+ px$", title) for title in panoptic)
        assert re.search(r"^[^%]*, [\d,]+ px$", user.titles("semantic")[0])  # has no score
        user.set_slider(2, 0)  # no instance of random weights has a score of a half
        instances = user.wait(lambda: user.titles("instance"))
        user.set_slider(0, 1)
        user.wait(lambda: not user.titles("panoptic"))
        assert user.titles("instance") == instances and len(runs) == 1

        boxes = user.wait(lambda: user.find("#on-instance input[type=checkbox]"))
        assert len(boxes) == len(instances)
        boxes[0].click()
        user.wait(lambda: user.titles("instance") == instances[1:])

        user.find("#save")[0].click()
        link = user.wait(lambda: user.find("a[download='mine_segments.json']"))[0]
        browser.execute_script("arguments[0].click()", link)
        user.wait((got / "mine_segments.json").is_file)  # renamed when it is complete
        saved = json.loads((got / "mine_segments.json").read_text())
        assert len(saved["instance"]) == len(instances) - 1 and saved["panoptic"] == []
        assert len(runs) == 1
        sent = requests_of(browser)
        assert any(request.startswith(url) for request in sent)
        assert all(request.startswith((url, "data:", "blob:")) for request in sent)


def test_a_photo_of_the_folder_and_an_error(
    service: Service, browser: Chrome, tmp_path: Path
) -> None:
    user = User(browser)
    with opened(service) as url:
        browser.get(url)
        box = user.wait(lambda: user.find("#photo input"))[0]
        box.click()
        user.wait(lambda: user.find("#photo [role=option]"))[1].click()
        user.wait(lambda: user.titles("panoptic"))
        first = user.titles("panoptic")
        other = write_photo(tmp_path / "two.png", 60, 20)  # of the same name, and another size
        user.find("input[type=file]")[0].send_keys(str(other))
        user.wait(lambda: user.titles("panoptic") not in ([], first))
        bad = tmp_path / "clip.jpg"
        bad.write_bytes(b"no photo")
        user.wait(lambda: user.find("input[type=file]"))[0].send_keys(str(bad))
        user.wait(lambda: "Cannot read clip.jpg: not an image" in browser.page_source)


def test_a_box_is_drawn_and_named(naming: Service, browser: Chrome, tmp_path: Path) -> None:
    user, photo = User(browser), write_photo(tmp_path / "mine.png", 60, 50)
    with opened(naming) as url:
        browser.get(url)
        user.wait(lambda: user.find("input[type=file]"))[0].send_keys(str(photo))
        picture = user.wait(lambda: user.find("#draw img"))[0]
        user.wait(lambda: picture.size["width"] > 20)
        user.set_slider(2, 0)
        for x, y in ((-0.2, -0.2), (0.2, 0.2)):
            at = (int(x * picture.size["width"]), int(y * picture.size["height"]))
            before = user.find("#drawn")[0].text
            ActionChains(browser).move_to_element_with_offset(picture, *at).click().perform()
            user.wait(lambda before=before: user.find("#drawn")[0].text != before)
        user.find("#name")[0].click()
        titles = user.wait(lambda: user.titles("instance"))
        areas = {int(title.split()[-2].replace(",", "")) for title in titles}
        assert len(areas) == 1 and 60 * 50 * 0.1 < areas.pop() < 60 * 50 * 0.25
