"""Headless Chromium, as far as tests of a page need it: by its debugging protocol over two pipes, without a driver.

Where Chromium is not installed `find` says None, and what needs it is skipped. Each page is one tab; what its console
says, and every exception that nobody caught, is kept and looked at when the test asks.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
# The browser reads its commands from descriptor 3 and answers on 4.
START = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)
SECONDS = 30.0
SAID = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")


def find() -> str | None:
    """The program; None where there is none."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


class Browser:
    """A browser without a window; a context manager."""

    def __init__(self, program: str, folder: Path):
        self._program, self._folder = program, folder
        self._number, self._rest = 0, b""
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> "Browser":
        (theirs, self._out), (self._in, answers) = os.pipe(), os.pipe()
        for end in (theirs, answers):
            os.set_inheritable(end, True)
        words = [self._program, *FLAGS, f"--user-data-dir={self._folder}"]
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", START, str(theirs), str(answers), *words],
            pass_fds=(theirs, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(answers)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._out)  # which ends it
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Carry out a command of the protocol; what it answers."""
        self._number += 1
        number, sent = self._number, {"id": self._number, "method": method, "params": parameters}
        os.write(self._out, json.dumps(sent | ({"sessionId": session} if session else {})).encode() + b"\0")
        while (heard := self._heard()).get("id") != number:
            self.events.append(heard)
        assert "error" not in heard, f"{method}: {heard}"
        return heard["result"]

    def _heard(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._in, 1 << 20)
            assert more, "the browser has ended"
            self._rest += more
        first, _, self._rest = self._rest.partition(b"\0")
        return json.loads(first)

    def open(self, file: Path, *, width: int = 1200, height: int = 900, dark: bool = False) -> "Tab":
        """A tab that shows a file, once it is loaded."""
        return Tab(self, file, (width, height), dark=dark)


class Tab:
    """A page.

    Attributes:
        seconds: from the request until everything is drawn.
        processor_seconds: what the page's process has taken since it began, to read, make and draw everything.
    """

    def __init__(self, browser: Browser, file: Path, size: tuple[int, int], *, dark: bool):
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=False
        )
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )
        began = time.monotonic()
        self.call("Page.navigate", url=file.resolve().as_uri())
        while self.run("document.readyState") != "complete":
            assert time.monotonic() - began < SECONDS, "the page does not load"
            time.sleep(0.02)
        self.run("new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)))")
        self.seconds = time.monotonic() - began
        self.call("Performance.enable")
        measured = {one["name"]: one["value"] for one in self.call("Performance.getMetrics")["metrics"]}
        self.processor_seconds = measured["ProcessTime"]

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the protocol, for this page."""
        return self._browser.call(method, self._session, **parameters)

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, script: str) -> Any:
        """The value of an expression once it is true."""
        began = time.monotonic()
        while not (value := self.run(script)):
            assert time.monotonic() - began < SECONDS, f"never true: {script}"
            time.sleep(0.02)
        return value

    def type(self, selector: str, text: str) -> None:
        """Put text into a field, as a person would."""
        self.front()
        self.run(f"document.querySelector({json.dumps(selector)}).select()")
        self.call("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """Press a key by its name."""
        self.front()
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def front(self) -> None:
        """Bring it before the others, which draw nothing and hear nothing."""
        self.call("Page.bringToFront")

    def place(self, selector: str, across: float = 0.5, down: float = 0.5) -> tuple[float, float]:
        """A point of an element, which is scrolled into view."""
        self.front()
        found = self.run(
            f"(() => {{const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center'}});"
            "const b = e.getBoundingClientRect(); return [b.x, b.y, b.width, b.height];})()"
        )
        return found[0] + across * found[2], found[1] + down * found[3]

    def mouse(self, kind: str, x: float, y: float) -> None:
        """What the mouse does at a point: mouseMoved, mousePressed or mouseReleased."""
        pressed = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **pressed)

    @property
    def said(self) -> list[str]:
        """What the page's console has, and what was thrown."""
        self.run("0")  # what was said before is heard before the answer
        mine = [one for one in self._browser.events if one.get("sessionId") == self._session]
        return [json.dumps(one["params"]) for one in mine if one["method"] in SAID]

    @property
    def asked(self) -> list[str]:
        """The addresses that the page has requested."""
        mine = [one for one in self._browser.events if one.get("sessionId") == self._session]
        sent = [one["params"] for one in mine if one["method"] == "Network.requestWillBeSent"]
        return [one["request"]["url"] for one in sent]

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """Write a picture of it as .png."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def printed(self) -> bytes:
        """The page as a PDF."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])
