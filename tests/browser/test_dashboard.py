"""The dashboard updates itself, and marks figures that are no longer live."""

import signal

import pytest
from playwright.async_api import expect
from tests.browser.people import Site, say

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

DEAD_TIMEOUT = 45_000  # ms: 30 s of silence and a margin


async def test_figures_update_without_a_reload(site: Site) -> None:
    page = await site.window("alice")
    await page.goto("/chat/dashboard/")
    connections = page.locator("[data-figure=connections] b")
    await expect(connections).to_have_text("1")
    await expect(page.locator(".state-word")).to_have_text("Live")
    bob = await site.enter("bob", "watched")
    await expect(connections).to_have_text("2")
    await expect(page.locator("[data-figure=rooms] b")).not_to_have_text("0")
    await say(bob, "counted")
    await expect(page.locator("[data-figure=store_p50_ms] .below")).to_contain_text("p99: ")
    await expect(page.locator(".chart[data-chart=connections] .legend bdi")).to_have_text(["web-1", "web-2"])
    await expect(page.locator(".plot canvas")).to_have_count(6)
    await expect(page.locator("tbody th")).to_have_text(["web@1", "web@2", "worker@1", "worker@2"])
    await expect(page.locator(".summary")).to_have_text("All 4 well")


async def test_a_silent_process_is_listed_first_until_it_reports_again(site: Site) -> None:
    page = await site.window("alice")
    await page.goto("/chat/dashboard/")
    await expect(page.locator(".summary")).to_have_text("All 4 well")
    victim = site.local.workers[1]
    victim.signal(signal.SIGSTOP)
    first = page.locator("tbody tr").first
    await expect(first).to_have_attribute("data-state", "stale")
    await expect(first).to_contain_text("worker@2")
    await expect(page.locator(".summary")).to_have_text("1 of 4 not well")
    await expect(first).to_have_attribute("data-state", "gone", timeout=DEAD_TIMEOUT)
    victim.signal(signal.SIGCONT)
    await expect(page.locator(".summary")).to_have_text("All 4 well")


async def test_figures_of_a_frozen_server_are_marked_stale_then_dead(site: Site) -> None:
    page = await site.window("alice")
    await page.goto("/chat/dashboard/")
    tile = page.locator("[data-figure=connections]")
    await expect(tile.locator(".age")).to_have_text("1 s ago")
    await expect(page.locator(".dead")).to_be_hidden()
    shown = await tile.locator("b").text_content()
    for child in site.local.web:
        child.signal(signal.SIGSTOP)
    try:
        await expect(tile).to_have_attribute("data-age", "stale")
        await expect(tile.locator(".age")).to_contain_text("Stale")
        await expect(page.locator(".state-word")).not_to_have_text("Live")
        await expect(page.locator(".state-word")).to_contain_text("Reconnecting")
        await expect(page.locator(".dead")).to_be_visible(timeout=DEAD_TIMEOUT)
        await expect(page.locator(".dead")).to_contain_text("The figures show the state at that time")
        # The last known figures stay, and every tile is marked.
        assert await tile.locator("b").text_content() == shown
        assert await page.locator(".tile:not([data-age=dead])").count() == 0
    finally:
        for child in site.local.web:
            child.signal(signal.SIGCONT)
    await expect(page.locator(".dead")).to_be_hidden()
    await expect(page.locator(".state-word")).to_have_text("Live")


async def test_wall_view_fits_on_one_screen(site: Site) -> None:
    page = await site.window("alice", width=1920, height=1080)
    await page.goto("/chat/dashboard/?wall")
    await expect(page.locator("[data-figure=connections] b")).to_have_text("1")
    await expect(page.get_by_role("navigation")).to_be_hidden()
    for part in (".tiles", ".charts", ".processes"):
        await expect(page.locator(part)).to_be_in_viewport(ratio=1)
    size = await page.evaluate("parseFloat(getComputedStyle(document.querySelector('.figure')).fontSize)")
    assert size > 80
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("navigation")).to_be_visible()


async def test_every_chart_draws_its_data(site: Site) -> None:
    page = await site.window("alice", scheme="dark")
    await page.goto("/chat/dashboard/")
    await expect(page.locator(".plot canvas")).to_have_count(6)
    await page.wait_for_function("""() => [...document.querySelectorAll(".plot canvas")].every((canvas) => {
        const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
        copy.drawImage(canvas, 0, 0);
        return copy.getImageData(0, 0, canvas.width, canvas.height).data.some((byte) => byte);
    })""")
