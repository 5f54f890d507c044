"""An installation with users, and their browser windows."""

import json
from collections.abc import Iterable
from typing import Any, Literal, Self

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect
from tests.integration.local import Installation

TIMEOUT = 20_000  # ms, for anything that involves a server
Scheme = Literal["light", "dark"]

expect.set_options(timeout=TIMEOUT)

# Browsers log these when a connection ends, which tests often cause.
EXPECTED_ERRORS = ("WebSocket connection to", "Failed to load resource")


class Site:
    """An installation, its users, and the pages that they have open."""

    def __init__(self, local: Installation, browser: Browser) -> None:
        self.local = local
        self._browser = browser
        self._passwords: dict[str, str] = {}
        self._sessions: dict[str, list[Any]] = {}
        self._contexts: list[BrowserContext] = []
        self.browser_errors: list[str] = []

    async def add_users(self, *names: str, admins: Iterable[str] = ()) -> Self:
        """Create users, those in `admins` as administrators."""
        for name in names:
            output = await self.local.run("user", "add", name, *(["--admin"] if name in admins else []))
            self._passwords[name] = output.split()[-1]
        return self

    def password(self, name: str) -> str:
        return self._passwords[name]

    async def shell(self, code: str) -> str:
        """Run Python code in the installation, for setup that no page offers. Room, Event and User are imported."""
        names = "from channelbox.chat.models import *; from channelbox.accounts.models import User\n"
        return await self.local.run("manage", "shell", "--no-imports", "-c", names + code)

    async def create_history(self, room: str, lines: Iterable[tuple[float, str, str]], title: str = "") -> None:
        """Create a room with a history. `lines` are minutes ago, name and text, the oldest first."""
        await self.shell(f"""
from datetime import timedelta
from django.utils import timezone
now = timezone.now()
users = {{user.username: user for user in User.objects.all()}}
room = Room.objects.create(name={room!r}, title={title!r})
events = []
for seq, (minutes, name, text) in enumerate({list(lines)!r}, 1):
    user = users.get(name)
    sender = f"u:{{user.pk}}" if user else f"g:{{name}}"
    at = now - timedelta(minutes=minutes)
    fields = dict(sender=sender, client_id=f"history-{{seq}}", user=user, name=name, text=text, at=at)
    events.append(Event(room=room, seq=seq, **fields))
Event.objects.bulk_create(events)
Room.objects.filter(pk=room.pk).update(last_seq=len(events), changed_at=events[-1].at)
""")

    async def window(
        self, name: str | None = None, *, width: int = 1440, height: int = 900, scheme: Scheme = "light", **options: Any
    ) -> Page:
        """Open a new browser window, signed in if there is a name."""
        context = await self._browser.new_context(
            base_url=self.local.url, viewport={"width": width, "height": height}, color_scheme=scheme, **options
        )
        context.set_default_timeout(TIMEOUT)
        self._contexts.append(context)
        context.on("page", self._watch)
        page = await context.new_page()
        if name is not None:
            if name not in self._sessions:
                await self.sign_in(page, name)
                self._sessions[name] = await context.cookies()
            await context.add_cookies(self._sessions[name])
        return page

    async def sign_in(self, page: Page, name: str) -> None:
        await page.goto("/accounts/login/")
        await page.fill("#username", name)
        await page.fill("#password", self.password(name))
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/chat/")

    async def enter(self, name: str | None, room: str, **options: Any) -> Page:
        """Open a window on a room, and wait until it is connected."""
        page = await self.window(name, **options)
        await page.goto(f"/chat/room/{room}/")
        await connected(page)
        return page

    def cookie(self, name: str) -> dict[str, str]:
        """Return the Cookie header of a user's session, for clients without a browser."""
        return {"Cookie": "; ".join(f"{cookie['name']}={cookie['value']}" for cookie in self._sessions[name])}

    def forget(self, name: str) -> None:
        """Drop a session that has ended, so that the next window signs in again."""
        self._sessions.pop(name, None)

    async def close_windows(self) -> None:
        """Close all windows. Raises AssertionError if a browser reported errors or warnings."""
        for context in self._contexts:
            await context.close()
        self._contexts.clear()
        browser_errors, self.browser_errors = self.browser_errors, []
        assert not browser_errors, "\n".join(browser_errors)

    def _watch(self, page: Page) -> None:
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.browser_errors.append(f"{error.name}: {error.message}\n{error.stack}"))
        page.on("request", self._on_request)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(EXPECTED_ERRORS):
            self.browser_errors.append(f"{message.type}: {message.text}")

    def _on_request(self, request: Request) -> None:
        """Record requests to any other server as errors: pages must not make any."""
        own = self.local.url
        if not request.url.startswith((f"{own}/", f"{own.replace('127.0.0.1', 'localhost')}/", "data:")):
            self.browser_errors.append(f"asked for {request.url}")


async def connected(page: Page) -> None:
    await expect(page.locator(".state-word")).to_have_text("Connected")


async def sign_out(page: Page) -> None:
    """Sign out through the menu, as a person does."""
    await page.locator("details.menu summary").click()
    await page.get_by_role("button", name="Sign out").click()
    await page.wait_for_url("**/accounts/login/")


async def say(page: Page, text: str) -> None:
    """Type and send a message as a person does, without waiting until it has been stored."""
    await page.fill("#text", text)
    await page.press("#text", "Enter")


async def texts(page: Page) -> list[str]:
    """Return the texts in the timeline, oldest first."""
    return await page.locator(".log .text").all_text_contents()


async def numbers(page: Page) -> list[int]:
    """Return the numbers of the messages in the timeline."""
    return json.loads(
        await page.evaluate("JSON.stringify([...document.querySelectorAll('.log .message')].map(m => +m.dataset.seq))")
    )
