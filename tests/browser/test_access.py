"""Access: signing in and out, and rooms that are closed to some users."""

import pytest
from playwright.async_api import expect
from tests.browser.people import Site, connected, say, sign_out

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_sign_in_redirects_to_the_requested_room(strict_site: Site) -> None:
    await strict_site.shell("Room.objects.get_or_create(name='office')")
    page = await strict_site.window()
    await page.goto("/chat/room/office/")
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    await expect(page.get_by_text("Run by the signal tower.")).to_be_visible()
    await page.fill("#username", "bob")
    await page.fill("#password", strict_site.password("bob"))
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url("**/chat/room/office/")
    await connected(page)


async def test_sign_in_error_does_not_reveal_whether_a_user_exists(strict_site: Site) -> None:
    page = await strict_site.window()
    errors = []
    for name in ("bob", "nobody-here"):
        await page.goto("/accounts/login/")
        await page.fill("#username", name)
        await page.fill("#password", "not the password")
        await page.keyboard.press("Enter")
        await expect(page.locator("#password")).to_have_attribute("aria-invalid", "true")
        await expect(page.locator("#username")).to_have_value(name)
        errors.append(await page.locator("#password-errors").inner_text())
    assert errors[0] == errors[1]


async def test_room_page_resumes_after_sign_in_in_another_tab(strict_site: Site) -> None:
    await strict_site.add_users("signe")
    await strict_site.shell("Room.objects.get_or_create(name='office')")
    page = await strict_site.enter("signe", "office")
    await page.fill("#text", "what I was writing")
    other = await page.context.new_page()
    await other.goto("/chat/")
    await sign_out(other)
    # As after a network outage: the page reconnects.
    await page.evaluate("""() => {
        dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true }));
        dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }));
    }""")
    await expect(page.locator(".state-word")).to_have_text("Signed out")
    link = page.locator(".notice").get_by_role("link", name="Sign in")
    await expect(link).to_have_attribute("href", "/accounts/login/?next=%2Fchat%2Froom%2Foffice%2F")
    await say(page, "said while signed out")
    await expect(page.locator(".pending-words")).to_have_text("Waiting for the connection")
    await strict_site.sign_in(other, "signe")
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await connected(page)
    await expect(page.locator(".log").get_by_text("said while signed out")).to_be_visible()
    await expect(page.locator(".pending")).to_have_count(0)
    strict_site.forget("signe")


async def test_inaccessible_rooms_are_refused_and_not_listed(strict_site: Site) -> None:
    await strict_site.shell("Room.objects.get_or_create(name='leads', members_only=True)")
    page = await strict_site.window("bob")
    await page.goto("/chat/room/leads/")
    await expect(page.get_by_role("heading")).to_have_text(
        "You don't have access to \N{LEFT DOUBLE QUOTATION MARK}leads\N{RIGHT DOUBLE QUOTATION MARK}"
    )
    await page.goto("/chat/")
    await expect(page.get_by_role("link", name="leads")).to_have_count(0)
    await page.goto("/chat/room/not-there/")
    await expect(page.get_by_text("You don't have permission to create rooms")).to_be_visible()
    await page.goto("/chat/")
    await page.fill("#name", "not-there")
    await page.keyboard.press("Enter")
    await expect(page.locator("#name-below")).to_contain_text("This room does not exist or you don't have access to it")


async def test_notice_for_an_unlisted_origin_names_the_setting(site: Site) -> None:
    page = await site.window()
    await page.goto(site.local.url.replace("127.0.0.1", "localhost") + "/chat/room/origin/")
    await expect(page.locator(".state-word")).to_have_text("No access")
    await expect(page.locator(".notice")).to_contain_text("CHANNELBOX_ORIGINS")


async def test_room_form_rejects_invalid_names_and_opens_valid_ones(site: Site) -> None:
    page = await site.window("bob")
    await page.goto("/chat/")
    await page.fill("#name", "a name with spaces")
    await page.keyboard.press("Enter")
    await expect(page.locator("#name-below")).to_have_text(
        "Use only letters from A to Z, digits, hyphens, underscores and dots, without spaces. "
        "The names . and .. are not allowed."
    )
    await expect(page.locator("#name")).to_have_attribute("aria-invalid", "true")
    await page.fill("#name", "north.2-b_1")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/chat/room/north.2-b_1/")
    await connected(page)
    await page.goto("/chat/")
    await expect(page.locator(".room-list").get_by_role("link", name="north.2-b_1")).to_be_visible()
