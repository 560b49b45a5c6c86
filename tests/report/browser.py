"""A real browser for tests, and what it can be asked."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from extras import needs
from PIL import Image

webdriver = needs("selenium.webdriver")
Service = needs("selenium.webdriver.chrome.service").Service
WebDriverWait = needs("selenium.webdriver.support.ui").WebDriverWait
REQUIRED = "ROBUSTPRUNE_BROWSER_TESTS"
"""Set it to ``required`` where the tests are to fail, not to be skipped, without a browser: as `.ci/run` does."""


def find_browser() -> tuple[str, str]:
    """Return the paths of Chromium and its driver; without them tests are skipped, or fail where they are required."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if browser and driver:
        return browser, driver
    reason = "Chromium and its driver are not installed; on Debian: apt-get install chromium chromium-driver"
    if os.environ.get(REQUIRED) == "required":
        pytest.fail(reason)
    pytest.skip(reason)


class Browser:
    """Chromium without a window."""

    def __init__(self) -> None:
        browser, driver = find_browser()
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        self.driver.set_script_timeout(120)

    def close(self) -> None:
        self.driver.quit()

    def open(self, page: Path) -> None:
        """Open a file with a window of 1200 × 900 pixels, in light mode."""
        self.show_as(width=1200, scheme="light")
        self.run("window.isOld = true")
        self.driver.get(page.as_uri())
        # On a busy machine `get` may return while the page before it is still there.
        is_loaded = "return !window.isOld && document.readyState === 'complete'"
        WebDriverWait(self.driver, 30).until(lambda _driver: self.run(is_loaded))

    def show_as(self, *, width: int, scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.command("Emulation.setEmulatedMedia", features=features)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.command("Emulation.setDeviceMetricsOverride", **size)

    def command(self, name: str, **parameters: Any) -> Any:
        return self.driver.execute_cdp_cmd(name, parameters)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def console(self) -> list[str]:
        """Return what was written to the console since this was last asked: errors of all kinds are among it."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Return the addresses that were asked for since this was last asked."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]

    def picture(self, element: Any) -> np.ndarray[Any, Any]:
        """Return an element as it is drawn, (H, W, 3)."""
        place = "const box = arguments[0].getBoundingClientRect(); return [box.x + scrollX, box.y + scrollY]"
        x, y = self.run(place, element)
        clip = {"x": x, "y": y, **{side: element.rect[side] for side in ("width", "height")}, "scale": 1}
        taken = self.command("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(taken))).convert("RGB"))
