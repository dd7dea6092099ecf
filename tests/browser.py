"""Chromium without a window, driven over a pipe by its own DevTools protocol: no package, no port, no network."""
import base64
import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
KEYS = {'Escape': 27, 'ArrowLeft': 37, 'ArrowRight': 39}
OPTIONS = ('--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--disable-dev-shm-usage', '--no-first-run',
           '--disable-background-networking', '--disable-extensions', '--remote-debugging-pipe',
           '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream')


class Browser:
    """A page of a browser.

    Args:
        commands: file descriptor to which commands are written.
        answers: file descriptor from which answers and events are read.
    """

    def __init__(self, commands: int, answers: int) -> None:
        self.commands, self.answers = commands, answers
        self.rest, self.sent, self.session = b'', 0, None
        self.mistakes: list[str] = []
        self.requests: list[str] = []  # Addresses that the page and its workers asked for.
        target = self.call('Target.createTarget', url='about:blank')['targetId']
        self.session = self.call('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self.call(f'{domain}.enable')
        self.call('Target.setAutoAttach', autoAttach=True, waitForDebuggerOnStart=True, flatten=True)

    def call(self, method: str, **arguments: Any) -> dict:
        """Send a command and wait for its answer."""
        self._send(self.session, method, **arguments)
        number = self.sent
        while True:
            answer = self._receive()
            if answer.get('id') == number:
                assert 'error' not in answer, (method, answer['error'])
                return answer['result']

    def _send(self, session: str | None, method: str, **arguments: Any) -> None:
        self.sent += 1
        message = dict(id=self.sent, method=method, params=arguments, **({'sessionId': session} if session else {}))
        os.write(self.commands, json.dumps(message).encode() + b'\0')

    def _receive(self) -> dict:
        while b'\0' not in self.rest:
            read = os.read(self.answers, 2**20)
            assert read, 'the browser has ended'
            self.rest += read
        message, self.rest = self.rest.split(b'\0', 1)
        event = json.loads(message)
        if event.get('method') == 'Runtime.exceptionThrown':
            self.mistakes.append(event['params']['exceptionDetails']['exception']['description'])
        elif event.get('method') == 'Log.entryAdded' and event['params']['entry']['level'] == 'error':
            self.mistakes.append(str(event['params']['entry']))
        elif event.get('method') == 'Network.requestWillBeSent':
            self.requests.append(event['params']['request']['url'])
        elif event.get('method') == 'Target.attachedToTarget' and event.get('sessionId'):  # A worker, which waits.
            for method in ('Network.enable', 'Runtime.runIfWaitingForDebugger'):
                self._send(event['params']['sessionId'], method)
        return event

    def open(self, page: Path | str, width: int = 1300, height: int = 1000, dark: bool = False) -> None:
        """Open a file or an address and wait until its script has run."""
        self.call('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call('Emulation.setEmulatedMedia', features=[dict(name='prefers-color-scheme', value='dark' if dark else 'light')])
        self.call('Page.navigate', url=page if isinstance(page, str) else page.absolute().as_uri())
        while self.run('document.readyState') != 'complete':
            pass

    def run(self, script: str) -> Any:
        """The value of an expression of JavaScript."""
        answer = self.call('Runtime.evaluate', expression=script, returnByValue=True, awaitPromise=True)
        assert 'exceptionDetails' not in answer, answer['exceptionDetails']
        return answer['result'].get('value')

    def click(self, selector: str, x: float = 0.5, y: float = 0.5) -> None:
        """Click with the mouse into an element, which is scrolled into view.

        Args:
            selector: of CSS.
            x, y: where in the element, 0 to 1.
        """
        place = f'document.querySelector({json.dumps(selector)})'
        self.run(f'{place}.scrollIntoView({{block: "center", behavior: "instant"}})')
        box = self.run(f'(({{x, y, width, height}}) => ({{x, y, width, height}}))({place}.getBoundingClientRect())')
        at = dict(x=box['x'] + x * box['width'], y=box['y'] + y * box['height'], button='left', clickCount=1)
        for kind in ('mousePressed', 'mouseReleased'):
            self.call('Input.dispatchMouseEvent', type=kind, **at)

    def press(self, key: str) -> None:
        """Press one of ``KEYS``."""
        for kind in ('keyDown', 'keyUp'):
            self.call('Input.dispatchKeyEvent', type=kind, key=key, code=key, windowsVirtualKeyCode=KEYS[key])

    def choose(self, selector: str, *files: Path) -> None:
        """Choose files in an input of files."""
        node = self.call('Runtime.evaluate', expression=f'document.querySelector({json.dumps(selector)})')['result']['objectId']
        self.call('DOM.setFileInputFiles', objectId=node, files=[str(file.absolute()) for file in files])

    def wait(self, condition: str) -> None:
        """Wait until an expression of JavaScript is true, at most for 20 seconds."""
        deadline = time.monotonic() + 20
        while not self.run(condition):
            assert time.monotonic() < deadline, condition
            time.sleep(0.02)

    def texts(self, selector: str) -> list[str]:
        """What the elements of a selector say, in their order."""
        return self.run(f'[...document.querySelectorAll({json.dumps(selector)})].map(each => each.textContent.trim())')

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """Write what is seen, or the whole page, as a PNG."""
        picture = self.call('Page.captureScreenshot', format='png', captureBeyondViewport=whole)['data']
        path.write_bytes(base64.b64decode(picture))


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Start a browser, or skip the test if there is none; it is ended with the block.

    Args:
        profile: folder for what the browser writes.
    """
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f'needs a browser ({", ".join(NAMES)}) on the PATH, e.g. by: apt-get install chromium')
    read_commands, commands = high(*os.pipe())
    answers, write_answers = high(*os.pipe())
    null = os.open(os.devnull, os.O_RDWR)
    # The browser reads commands from file 3 and writes answers into file 4; the other ends close when it starts.
    moves = [(os.POSIX_SPAWN_DUP2, source, target) for source, target in
             ((null, 0), (null, 1), (null, 2), (read_commands, 3), (write_answers, 4))]
    process = os.posix_spawn(program, [program, *OPTIONS, f'--user-data-dir={profile}'], dict(os.environ, HOME=str(profile)),
                             file_actions=moves, setpgroup=0)
    for descriptor in (read_commands, write_answers, null):
        os.close(descriptor)
    try:
        yield Browser(commands, answers)
    finally:
        os.killpg(process, signal.SIGKILL)
        os.waitpid(process, 0)
        for descriptor in (commands, answers):
            os.close(descriptor)


def high(*descriptors: int) -> Iterator[int]:
    """Move file descriptors above those that a program is started with."""
    for descriptor in descriptors:
        yield fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
        os.close(descriptor)
