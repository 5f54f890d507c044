"""Chatting in browsers, also across lost connections and crashed servers."""

import signal

import pytest
from playwright.async_api import expect
from tests.browser.people import Site, connected, numbers, say

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

ATTACK = '<img src=x onerror="document.title=1"><script>document.title=2</script>&amp;<b>bold</b>'


async def test_two_people_talk_in_a_room(site: Site) -> None:
    alice = await site.enter("alice", "two")
    bob = await site.enter("bob", "two")
    await say(alice, "hello bob")
    await expect(bob.locator(".log .text")).to_have_text(["hello bob"])
    await say(bob, "hello alice\nsecond line")
    await expect(alice.locator(".log .text")).to_have_text(["hello bob", "hello alice\nsecond line"])
    await expect(alice.locator(".log .name")).to_have_text(["alice", "bob"])
    await expect(alice.locator(".pending")).to_have_count(0)


async def test_presence_and_typing_are_shown(site: Site) -> None:
    alice = await site.enter("alice", "presence")
    bob = await site.enter("bob", "presence")
    await expect(alice.locator(".people li")).to_have_text(["Aalice", "Bbob"])
    await bob.locator("#text").press_sequentially("I am ty")
    await expect(alice.locator(".typing")).to_have_text("bob is typing")
    await say(bob, "I am typing")
    await expect(alice.locator(".typing")).to_have_text("")
    await bob.close()
    await expect(alice.locator(".people li")).to_have_text(["Aalice"])


async def test_a_guest_has_the_same_name_on_every_page(site: Site) -> None:
    page = await site.enter(None, "guests")
    name = await page.locator(".people li bdi").text_content()
    assert name is not None
    assert name.startswith("guest-")
    await page.goto("/chat/room/guests-elsewhere/")
    await expect(page.locator(".people li bdi")).to_have_text(name)


async def test_messages_survive_a_server_crash_once_and_in_order(site: Site) -> None:
    alice = await site.enter("alice", "restart")
    bob = await site.enter("bob", "restart")
    await say(alice, "before")
    await expect(bob.locator(".log .text")).to_have_text(["before"])
    # A message sent now is on the wire without an answer, and perhaps stored.
    for child in site.local.web:
        child.signal(signal.SIGSTOP)
    await say(alice, "into the frozen server")
    await expect(alice.locator(".pending-words")).to_have_text(["Sending"])
    for child in site.local.web:
        child.signal(signal.SIGKILL)
    await expect(alice.locator(".state-word")).to_contain_text("Reconnecting")
    await say(alice, "while it is away")
    await say(alice, "and one more")
    await expect(alice.locator(".pending-words").last).to_have_text("Waiting for the connection")
    await connected(alice)
    await connected(bob)
    sent = ["before", "into the frozen server", "while it is away", "and one more"]
    await expect(bob.locator(".log .text")).to_have_text(sent)
    await expect(alice.locator(".log .text")).to_have_text(sent)
    await expect(alice.locator(".pending")).to_have_count(0)
    assert await numbers(bob) == [1, 2, 3, 4]


async def test_a_reconnected_page_catches_up_on_missed_messages(site: Site) -> None:
    bob = await site.enter("bob", "missed")
    await say(bob, "one")
    await expect(bob.locator(".log .text")).to_have_text(["one"])
    await bob.context.set_offline(True)
    await expect(bob.locator(".state-word")).to_contain_text("Reconnecting")
    alice = await site.enter("alice", "missed")
    for text in ("two", "three"):
        await say(alice, text)
    await expect(alice.locator(".log .text")).to_have_text(["one", "two", "three"])
    await bob.context.set_offline(False)
    await expect(bob.locator(".log .text")).to_have_text(["one", "two", "three"])
    await connected(bob)


async def test_unsent_messages_and_drafts_survive_a_reload(site: Site) -> None:
    alice = await site.enter("alice", "reload")
    for child in site.local.web:
        child.signal(signal.SIGSTOP)
    await say(alice, "unsent")
    await alice.fill("#text", "a draft")
    alice.on("dialog", lambda dialog: dialog.accept())
    await alice.evaluate("setTimeout(() => location.reload())")
    for child in site.local.web:
        child.signal(signal.SIGCONT)
    await connected(alice)
    await expect(alice.locator("#text")).to_have_value("a draft")
    await expect(alice.locator(".log .text")).to_have_text(["unsent"])
    await expect(alice.locator(".pending")).to_have_count(0)


async def test_messages_and_titles_are_never_rendered_as_html(site: Site) -> None:
    await site.shell(f"Room.objects.create(name='attack', title={ATTACK!r})")
    alice = await site.enter("alice", "attack")
    bob = await site.enter("bob", "attack")
    await say(alice, ATTACK)
    await expect(bob.locator(".log .text")).to_have_text([ATTACK])
    await expect(bob.locator("h1")).to_have_text(ATTACK)
    assert await bob.locator("main img, main script, main b").count() == 0
    assert ATTACK in await bob.title()
    await bob.goto("/chat/")
    await expect(bob.get_by_text(ATTACK)).to_be_visible()
    await site.shell("Room.objects.get(name='attack').delete()")


async def test_a_refused_message_shows_the_reason_and_can_be_edited(site: Site) -> None:
    alice = await site.enter("alice", "refused")
    await say(alice, "with a bell \a")
    failed = alice.locator(".pending[data-state=failed]")
    await expect(failed.locator(".pending-words")).to_have_text("Not sent: Messages cannot contain control characters.")
    await failed.get_by_role("button", name="Send again").click()
    await expect(failed).to_have_count(1)
    await failed.get_by_role("button", name="Edit").click()
    await expect(alice.locator("#text")).to_have_value("with a bell \a")
    await expect(alice.locator(".pending")).to_have_count(0)
    await say(alice, "without a bell")
    await expect(alice.locator(".log .text")).to_have_text(["without a bell"])


async def test_a_too_long_message_shows_the_excess_and_is_kept(site: Site) -> None:
    alice = await site.enter("alice", "long")
    await alice.fill("#text", "x" * 3900)
    await expect(alice.locator(".count")).to_have_text("Characters left: 100")
    await alice.fill("#text", "\N{WINKING FACE}" * 4003)
    await expect(alice.locator(".count")).to_have_text("Characters over the limit: 3")
    await alice.press("#text", "Enter")
    await expect(alice.locator("#text")).to_have_attribute("aria-invalid", "true")
    assert await alice.input_value("#text") == "\N{WINKING FACE}" * 4003
    await say(alice, "\N{WINKING FACE}" * 4000)
    await expect(alice.locator(".log .text")).to_have_count(1)


async def test_a_page_of_a_full_room_connects_once_a_slot_is_free(site: Site) -> None:
    await site.shell("Room.objects.create(name='small', limit=1)")
    alice = await site.enter("alice", "small")
    bob = await site.window("bob")
    await bob.goto("/chat/room/small/")
    await expect(bob.locator(".state-word")).to_have_text("Room full")
    await expect(bob.locator(".notice")).to_contain_text("connects when somebody leaves")
    await alice.close()
    await bob.locator(".notice button").click()
    await connected(bob)
    await expect(bob.locator(".notice")).to_be_hidden()


async def test_losing_access_to_a_room_shows_a_notice(site: Site) -> None:
    page = await site.enter("bob", "narrowing")
    await site.shell("Room.objects.filter(name='narrowing').update(members_only=True)")
    await page.evaluate("""() => {
        dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true }));
        dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }));
    }""")
    await expect(page.locator(".state-word")).to_have_text("No access")
    await expect(page.locator(".notice")).to_contain_text("You don't have access to this room")


async def test_tab_title_counts_new_messages_while_unfocused(site: Site) -> None:
    bob = await site.enter("bob", "tab")
    title = await bob.title()
    elsewhere = await bob.context.new_page()
    await elsewhere.bring_to_front()
    await bob.evaluate("document.hasFocus = () => false")
    alice = await site.enter("alice", "tab")
    await say(alice, "psst")
    await expect(bob).to_have_title(f"(1) {title}")
    assert "icon-new" in str(await bob.locator("#icon").get_attribute("href"))
    await bob.evaluate("dispatchEvent(new Event('focus'))")
    await expect(bob).to_have_title(title)


async def test_each_room_keeps_its_own_draft(site: Site) -> None:
    alice = await site.enter("alice", "draft-one")
    await alice.fill("#text", "not finished")
    await alice.goto("/chat/room/draft-two/")
    await expect(alice.locator("#text")).to_have_value("")
    await alice.goto("/chat/room/draft-one/")
    await expect(alice.locator("#text")).to_have_value("not finished")
    await say(alice, "finished")
    await expect(alice.locator(".log .text")).to_have_text(["finished"])
    await alice.reload()
    await expect(alice.locator("#text")).to_have_value("")
