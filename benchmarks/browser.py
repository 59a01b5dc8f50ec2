"""A headless Chromium with one window, driven as a reader would; the tests use it as well."""

import json
import os
import shutil
import time

_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars",
)  # fmt: skip
_KEYS = {"down": "\ue015"}


class Browser:
    """Selenium, as far as it is needed here."""

    def __init__(self, profile):
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = next(
            filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
        )
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        # The driver is on this machine, whatever proxy there is.
        os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*"
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        self._driver = webdriver.Chrome(options, service)
        self._driver.get("about:blank")
        self._driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
        self.requests()

    def close(self):
        self._driver.quit()

    def size(self, width, *, height=900, dark=False):
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def open(self, path):
        """Seconds until the page is loaded, and what is in sight is drawn."""
        self.requests(), self.console()
        start = time.perf_counter()
        self._driver.get(path.as_uri())
        self._driver.execute_async_script(
            "const done = arguments[0]; "
            "requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done)))"
        )
        return time.perf_counter() - start

    def busy(self):
        """Seconds of processor time that the page's thread has taken since it was opened."""
        told = self._driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        return next(m["value"] for m in told if m["name"] == "ThreadTime")

    def run(self, script):
        return self._driver.execute_script(script)

    def plot(self, name, what):
        """Of a drawn plot, what Plotly was given."""
        return self.run(f"return document.getElementById({name!r}).{what}")

    def choose(self, name, value):
        """Seconds until the picture has changed."""
        start = time.perf_counter()
        self._driver.execute_async_script(
            "const [id, value, done] = arguments, select = document.getElementById(id); "
            "if (![...select.options].some(o => o.value === value)) throw Error(value); "
            "select.value = value; select.dispatchEvent(new Event('change')); "
            "requestAnimationFrame(() => setTimeout(done))",
            name,
            value,
        )
        return time.perf_counter() - start

    def press(self, name, key):
        self._driver.find_element("id", name).send_keys(_KEYS[key])

    def wait(self, script, seconds=20):
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, script
            time.sleep(0.02)

    def scroll_through(self):
        """Bring everything into sight once."""
        for name in self.run("return [...document.querySelectorAll('section')].map(s => s.id)"):
            self._driver.execute_async_script(
                "const [id, done] = arguments; document.getElementById(id).scrollIntoView(); "
                "requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done)))",
                name,
            )
        self.wait("return due.size === 0")

    def console(self):
        """What was said there since the last call."""
        return [entry["message"] for entry in self._driver.get_log("browser")]

    def requests(self):
        """Addresses that were asked for since the last call, apart from data in the page."""
        told = (json.loads(e["message"])["message"] for e in self._driver.get_log("performance"))
        asked = (
            m["params"]["request"]["url"]
            for m in told
            if m["method"] == "Network.requestWillBeSent"
        )
        # The browser's own pages are no part of it.
        return {url for url in asked if not url.startswith(("data:", "blob:", "chrome:"))}
