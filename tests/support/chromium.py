"""A page in headless Chromium, driven over the DevTools protocol through a pair of pipes."""

import base64
import json
import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 60


def find_chromium():
    """The program, or None where there is none."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@contextmanager
def open_page(address, profile, width=1200, height=900):
    """Open a page in a browser of its own, and yield it."""
    to_browser, our_end = os.pipe()
    their_end, from_browser = os.pipe()[::-1]
    os.set_inheritable(to_browser, True)
    os.set_inheritable(their_end, True)
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]
    command = [find_chromium(), *flags, f"--user-data-dir={profile}", f"--window-size={width},{height}"]
    # The protocol is spoken on the descriptors 3 and 4.
    pipes = f'exec "$@" 3<&{to_browser} 4>&{their_end}'
    browser = subprocess.Popen(
        ["bash", "-c", pipes, "bash", *command, "about:blank"],
        pass_fds=(to_browser, their_end),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(their_end)
    try:
        with os.fdopen(our_end, "wb", buffering=0) as said, os.fdopen(from_browser, "rb") as heard:
            page = Page(said, heard)
            page.open(address, width, height)
            yield page
    finally:
        browser.terminate()
        browser.wait(timeout=SECONDS)


class Page:
    """One tab."""

    def __init__(self, said, heard):
        self.said, self.heard, self.number, self.session = said, heard, 0, None

    def call(self, method, **parameters):
        """Call a method of the protocol; its result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.said.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = json.loads(self._read())
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def _read(self):
        parts = bytearray()
        while (byte := self.heard.read(1)) != b"\0":
            if not byte:
                raise RuntimeError("Chromium ended")
            parts += byte
        return parts

    def open(self, address, width, height):
        targets = self.call("Target.getTargets")["targetInfos"]
        [target] = [target["targetId"] for target in targets if target["type"] == "page"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Page.navigate", url=address)

    def evaluate(self, expression):
        """The value of a JavaScript expression."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def wait_for(self, expression):
        """Wait until an expression is true; its value."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            if value := self.evaluate(expression):
                return value
            time.sleep(0.1)
        raise TimeoutError(f"{expression} is not true; the page says: {self.text()}")

    def text(self):
        """What can be read on the page."""
        return self.evaluate("document.body.innerText")

    def choose_file(self, path):
        """Give a file to the page's file input, as a user's dialogue does."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector="input[type=file]")["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def screenshot(self, path):
        """Write what is seen of the whole page as PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        Path(path).write_bytes(base64.b64decode(shot["data"]))
