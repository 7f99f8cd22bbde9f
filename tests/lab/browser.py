# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A headless Chromium to look at pages with: size, colour scheme, questions to the page, pictures."""

from __future__ import annotations

import base64
import itertools
import json
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket

from tests.lab.settings import LabError

PROGRAM = "chromium"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-address=127.0.0.1",
    "--remote-debugging-port=0",
)
START_SECONDS = 60.0
ANSWER_SECONDS = 60.0
LISTENING = "DevTools listening on "
Message = dict[str, Any]


class BrowserError(LabError):
    """Chromium is missing, did not start, or refused what it was asked."""


class Page:
    """One tab, spoken to by the DevTools protocol.

    Args:
        address: WebSocket address of the tab.

    Attributes:
        events: what the tab told without being asked: requests, exceptions, messages of the console.
    """

    def __init__(self, address: str) -> None:
        self.events: list[Message] = []
        self._ids = itertools.count(1)
        self._socket = websocket.create_connection(address, timeout=ANSWER_SECONDS, suppress_origin=True)
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> Message:
        """Send one command and return its result.

        Raises:
            BrowserError: Chromium refused it.
        """
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = self._read()
            if message.get("id") != number:
                continue
            if "error" in message:
                raise BrowserError(f"Chromium refuses {method}: {message['error'].get('message')}")
            result: Message = message["result"]
            return result

    def _read(self) -> Message:
        message: Message = json.loads(self._socket.recv())
        if "method" in message:
            self.events.append(message)
        return message

    def resize(self, width: int, height: int, *, phone: bool = False, dark: bool = False) -> None:
        """Set the viewport in CSS pixels, as a phone or a desktop has it, and the preferred colours."""
        scale = 2 if phone else 1
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str) -> None:
        """Load a page and wait until its load event."""
        self.events.clear()
        problem = self.ask("Page.navigate", url=url).get("errorText")
        if problem:
            raise BrowserError(f"{url} does not open: {problem}")
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._read()

    def evaluate(self, expression: str) -> Any:
        """Return the JSON value of an expression in the page; promises are waited for."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise BrowserError(f"the page throws: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 30.0) -> Any:
        """Ask until the expression is true in the page, and return its value.

        Raises:
            BrowserError: it was not true in time.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = self.evaluate(expression)
            if value:
                return value
            time.sleep(0.2)
        raise BrowserError(f"after {seconds:.0f} s the page still does not satisfy {expression}")

    def requests(self) -> list[str]:
        """Return the addresses that the page asked for since it was opened."""
        return [
            event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent"
        ]

    def problems(self) -> list[str]:
        """Return uncaught exceptions and errors on the console since the page was opened."""
        found = []
        for event in self.events:
            parameters: Mapping[str, Any] = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(parameters["exceptionDetails"].get("text")))
            if event["method"] == "Runtime.consoleAPICalled" and parameters["type"] == "error":
                found.append(str(parameters["args"]))
            if event["method"] == "Log.entryAdded" and parameters["entry"]["level"] == "error":
                found.append(str(parameters["entry"]["text"]))
        return found

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Write a PNG of the viewport, or of the whole page."""
        options: dict[str, Any] = {"captureBeyondViewport": True} if whole else {}
        if whole:
            size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
            options |= {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}
        picture = self.ask("Page.captureScreenshot", format="png", **options)["data"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(picture))

    def close(self) -> None:
        self._socket.close()


@contextmanager
def browser() -> Iterator[Page]:
    """Start Chromium with an empty profile, yield its first tab, and end it again.

    Raises:
        BrowserError: there is no Chromium, or it does not start.
    """
    if not shutil.which(PROGRAM):
        raise BrowserError(f"{PROGRAM} is missing; Debian's package {PROGRAM} has it")
    with tempfile.TemporaryDirectory(prefix="mlflow-runbook-browser-", ignore_cleanup_errors=True) as profile:
        argv = [PROGRAM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        try:
            page = Page(_tab(_address(process)))
            yield page
            page.close()
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process: subprocess.Popen[str]) -> str:
    """Return the address that Chromium says it listens on, and keep its output flowing."""
    assert process.stderr is not None
    lines = process.stderr
    said: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in lines:
            if line.startswith(LISTENING):
                said.put(line.removeprefix(LISTENING).strip())

    threading.Thread(target=read, daemon=True).start()
    try:
        return said.get(timeout=START_SECONDS)
    except queue.Empty:
        raise BrowserError(f"{PROGRAM} does not listen after {START_SECONDS:.0f} s") from None


def _tab(address: str) -> str:
    """Return the WebSocket address of the first tab."""
    host = address.split("/")[2]
    end = time.monotonic() + START_SECONDS
    connection = websocket.create_connection(address, timeout=ANSWER_SECONDS, suppress_origin=True)
    try:
        while time.monotonic() < end:
            connection.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
            answer = json.loads(connection.recv())
            for target in answer.get("result", {}).get("targetInfos", []):
                if target["type"] == "page":
                    return f"ws://{host}/devtools/page/{target['targetId']}"
            time.sleep(0.1)
    finally:
        connection.close()
    raise BrowserError("Chromium has no tab")
