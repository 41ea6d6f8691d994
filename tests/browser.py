"""A Chromium without a window that opens a page and is used as by hand, over the pipe of its DevTools protocol."""

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SWITCHES = """--headless --no-sandbox --disable-quic --no-first-run --disable-background-networking --disable-sync
--disable-component-update --disable-dev-shm-usage --hide-scrollbars --enable-unsafe-swiftshader
--remote-debugging-pipe"""
PATIENCE = 60  # seconds
KEYS = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Tab": 9}


def installed() -> str | None:
    """The browser on PATH, if there is one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One tab. `problems` collects what its scripts threw, what its console reports and what it asked a network for."""

    def __init__(self, folder: Path, width: int = 1280, height: int = 800) -> None:
        to, back = os.pipe(), os.pipe()
        theirs = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (to[0], back[1])]  # neither is 3 or 4
        switches = [*SWITCHES.split(), f"--user-data-dir={folder / 'profile'}", "about:blank"]
        actions: list[Any] = [(os.POSIX_SPAWN_OPEN, out, os.devnull, os.O_WRONLY, 0) for out in (1, 2)]
        actions += [(os.POSIX_SPAWN_DUP2, end, n) for n, end in zip((3, 4), theirs, strict=True)]  # as it expects them
        name = installed() or ""
        self._process = os.posix_spawn(name, [name, *switches], os.environ, file_actions=actions, setsid=True)
        for end in (to[0], back[1], *theirs):
            os.close(end)
        self._to, self._from, self._rest, self._count, self._session = to[1], back[0], b"", 0, ""
        self.problems: list[str] = []
        page = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol (https://chromedevtools.github.io/devtools-protocol)."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        os.write(
            self._to, json.dumps(message | ({"sessionId": self._session} if self._session else {})).encode() + b"\0"
        )
        ends = time.monotonic() + PATIENCE
        while time.monotonic() < ends:
            answer = self._next(ends)
            if answer.get("id") == self._count:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])
            self._note(answer)
        raise TimeoutError(method)

    def _next(self, ends: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select.select([self._from], [], [], max(0, ends - time.monotonic()))[0]:
                return {}
            read = os.read(self._from, 1 << 20)
            assert read, "the browser has ended"
            self._rest += read
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.problems.append(params["exceptionDetails"].get("exception", {}).get("description", str(params)))
        elif event.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(params["entry"]["text"])
        elif event.get("method") == "Network.requestWillBeSent" and not params["request"]["url"].startswith("file:"):
            self.problems.append(f"request of {params['request']['url']}")

    def open(self, page: Path, ready: str = "document.documentElement?.dataset.ready === ''") -> None:
        """Open a file, and wait until `ready` is true."""
        self.call("Page.navigate", url=page.as_uri() if "#" not in page.name else f"file://{page}")
        self.wait(ready)

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is awaited."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"].get("exception", {}).get("description")
        return done["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until an expression is true."""
        ends = time.monotonic() + PATIENCE
        while not self.run(condition):
            assert time.monotonic() < ends, f"{condition} did not become true. {self.problems}"
            time.sleep(0.02)

    def frame(self) -> None:
        """Wait until what has changed is drawn."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def resize(self, width: int, height: int, dense: float = 1, phone: bool = False) -> None:
        """Give the page these sides in pixels; a `phone` has a touch screen."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=dense, mobile=phone
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone, maxTouchPoints=2 if phone else 1)

    def prefer(self, scheme: str) -> None:
        """Let the system prefer a "light" or "dark" scheme."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """Move the mouse ("mouseMoved"), press, release, or turn its wheel."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, x: float, y: float) -> None:
        """Click at these pixels."""
        self.mouse("mouseMoved", x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, button="left", clickCount=1)
        self.frame()

    def click_on(self, selector: str) -> None:
        """Click at the middle of an element, which is scrolled into view."""
        where = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{where}.scrollIntoView({{block: 'nearest'}})")
        middle = f"(r => [r.x + r.width / 2, r.y + r.height / 2])({where}.getBoundingClientRect())"
        self.click(*self.run(middle))

    def touch(self, kind: str, *fingers: tuple[float, float]) -> None:
        """Put fingers on the screen ("touchStart"), move them, or lift them ("touchEnd", without any)."""
        self.call("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y} for x, y in fingers])

    def press(self, key: str, shift: bool = False) -> None:
        """Press and release a key."""
        text = {"text": "\r" if key == "Enter" else key} if len(key) == 1 or key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            more: dict[str, Any] = text if kind == "keyDown" else {}
            code = KEYS.get(key, 0)
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, modifiers=8 * shift, **more
            )
        self.frame()

    def write(self, text: str) -> None:
        """Type a text into what has the focus."""
        self.call("Input.insertText", text=text)
        self.frame()

    def picture(self, path: Path) -> None:
        """Save what the window shows as PNG."""
        self.frame()
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def close(self) -> None:
        """End the browser and its processes."""
        for end in (self._to, self._from):
            os.close(end)
        with suppress(ProcessLookupError):
            os.killpg(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)


@contextmanager
def browsing(folder: Path, **size: int) -> Iterator[Browser]:
    """A browser whose profile lies in `folder`; it ends at the end."""
    browser = Browser(folder, **size)
    try:
        yield browser
    finally:
        browser.close()
