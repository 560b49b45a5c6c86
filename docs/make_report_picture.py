"""Takes the picture of a report for README and docs, light on the left and dark on the right, in a real browser.

    python docs/make_report_picture.py demo/report.html docs/report.jpg

It takes Chromium and its driver (Debian: chromium, chromium-driver).
"""

from __future__ import annotations

import base64
import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

WIDTH, HEIGHT = 1200, 1470
SHOWN = 560  # pixels of either half


def take(driver: webdriver.Chrome, scheme: str) -> Image.Image:
    """Return the top of the page in one colour scheme."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    clip = {"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT, "scale": 1}
    taken = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    return Image.open(io.BytesIO(base64.b64decode(taken["data"]))).convert("RGB")


def main(page: Path, out: Path) -> None:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.get(page.resolve().as_uri())
        light, dark = take(driver, "light"), take(driver, "dark")
    finally:
        driver.quit()
    both = Image.new("RGB", (2 * WIDTH, HEIGHT))
    both.paste(light, (0, 0))
    both.paste(dark, (WIDTH, 0))
    height = round(HEIGHT * SHOWN / WIDTH)
    # Twice as many pixels as are shown, for sharp screens.
    both = both.resize((4 * SHOWN, 2 * height), Image.Resampling.LANCZOS)
    both.save(out, quality=60, optimize=True, progressive=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
