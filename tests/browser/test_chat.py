"""People talk in browsers, whatever happens to the connection."""

import signal

import pytest
from playwright.async_api import expect
from tests.browser.people import Town, connected, numbers, say

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

ATTACK = '<img src=x onerror="document.title=1"><script>document.title=2</script>&amp;<b>bold</b>'


async def test_two_people_talk_in_a_room(town: Town) -> None:
    alice = await town.enter("alice", "two")
    ben = await town.enter("ben", "two")
    await say(alice, "hello ben")
    await expect(ben.locator(".log .text")).to_have_text(["hello ben"])
    await say(ben, "hello alice\nsecond line")
    await expect(alice.locator(".log .text")).to_have_text(["hello ben", "hello alice\nsecond line"])
    await expect(alice.locator(".log .name")).to_have_text(["alice", "ben"])
    await expect(alice.locator(".pending")).to_have_count(0)


async def test_who_is_here_and_who_is_typing(town: Town) -> None:
    alice = await town.enter("alice", "presence")
    ben = await town.enter("ben", "presence")
    await expect(alice.locator(".people li")).to_have_text(["Aalice", "Bben"])
    await ben.locator("#text").press_sequentially("I am ty")
    await expect(alice.locator(".typing")).to_have_text("ben is typing")
    await say(ben, "I am typing")
    await expect(alice.locator(".typing")).to_have_text("")
    await ben.close()
    await expect(alice.locator(".people li")).to_have_text(["Aalice"])


async def test_a_guest_has_the_same_name_on_every_page(town: Town) -> None:
    page = await town.enter(None, "guests")
    name = await page.locator(".people li bdi").text_content()
    assert name is not None
    assert name.startswith("guest-")
    await page.goto("/chat/room/guests-elsewhere/")
    await expect(page.locator(".people li bdi")).to_have_text(name)


async def test_messages_wait_while_the_servers_are_away_and_arrive_once_and_in_order(town: Town) -> None:
    alice = await town.enter("alice", "restart")
    ben = await town.enter("ben", "restart")
    await say(alice, "before")
    await expect(ben.locator(".log .text")).to_have_text(["before"])
    # What is sent now is on the wire without an answer, and perhaps stored.
    for child in town.local.web:
        child.signal(signal.SIGSTOP)
    await say(alice, "into the frozen server")
    await expect(alice.locator(".pending-words")).to_have_text(["Sending"])
    for child in town.local.web:
        child.signal(signal.SIGKILL)
    await expect(alice.locator(".state-word")).to_contain_text("Reconnecting")
    await say(alice, "while it is away")
    await say(alice, "and one more")
    await expect(alice.locator(".pending-words").last).to_have_text("Waiting for the connection")
    await connected(alice)
    await connected(ben)
    said = ["before", "into the frozen server", "while it is away", "and one more"]
    await expect(ben.locator(".log .text")).to_have_text(said)
    await expect(alice.locator(".log .text")).to_have_text(said)
    await expect(alice.locator(".pending")).to_have_count(0)
    assert await numbers(ben) == [1, 2, 3, 4]


async def test_what_was_missed_is_caught_up_without_a_gap(town: Town) -> None:
    ben = await town.enter("ben", "missed")
    await say(ben, "one")
    await expect(ben.locator(".log .text")).to_have_text(["one"])
    await ben.context.set_offline(True)
    await expect(ben.locator(".state-word")).to_contain_text("Reconnecting")
    alice = await town.enter("alice", "missed")
    for text in ("two", "three"):
        await say(alice, text)
    await expect(alice.locator(".log .text")).to_have_text(["one", "two", "three"])
    await ben.context.set_offline(False)
    await expect(ben.locator(".log .text")).to_have_text(["one", "two", "three"])
    await connected(ben)


async def test_what_was_not_sent_survives_a_reload(town: Town) -> None:
    alice = await town.enter("alice", "reload")
    for child in town.local.web:
        child.signal(signal.SIGSTOP)
    await say(alice, "unsent")
    await alice.fill("#text", "a draft")
    alice.on("dialog", lambda dialog: dialog.accept())
    await alice.evaluate("setTimeout(() => location.reload())")
    for child in town.local.web:
        child.signal(signal.SIGCONT)
    await connected(alice)
    await expect(alice.locator("#text")).to_have_value("a draft")
    await expect(alice.locator(".log .text")).to_have_text(["unsent"])
    await expect(alice.locator(".pending")).to_have_count(0)


async def test_text_is_never_html(town: Town) -> None:
    await town.shell(f"Room.objects.create(name='attack', title={ATTACK!r})")
    alice = await town.enter("alice", "attack")
    ben = await town.enter("ben", "attack")
    await say(alice, ATTACK)
    await expect(ben.locator(".log .text")).to_have_text([ATTACK])
    await expect(ben.locator("h1")).to_have_text(ATTACK)
    assert await ben.locator("main img, main script, main b").count() == 0
    assert ATTACK in await ben.title()
    await ben.goto("/chat/")
    await expect(ben.get_by_text(ATTACK)).to_be_visible()
    await town.shell("Room.objects.get(name='attack').delete()")


async def test_a_refused_message_shows_why_and_can_be_mended(town: Town) -> None:
    alice = await town.enter("alice", "refused")
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


async def test_a_message_that_is_too_long_says_by_how_much_and_stays(town: Town) -> None:
    alice = await town.enter("alice", "long")
    await alice.fill("#text", "x" * 3900)
    await expect(alice.locator(".count")).to_have_text("Characters left: 100")
    await alice.fill("#text", "\N{WINKING FACE}" * 4003)
    await expect(alice.locator(".count")).to_have_text("Characters over the limit: 3")
    await alice.press("#text", "Enter")
    await expect(alice.locator("#text")).to_have_attribute("aria-invalid", "true")
    assert await alice.input_value("#text") == "\N{WINKING FACE}" * 4003
    await say(alice, "\N{WINKING FACE}" * 4000)
    await expect(alice.locator(".log .text")).to_have_count(1)


async def test_a_full_room_says_so_and_lets_in_as_soon_as_there_is_a_place(town: Town) -> None:
    await town.shell("Room.objects.create(name='small', limit=1)")
    alice = await town.enter("alice", "small")
    ben = await town.window("ben")
    await ben.goto("/chat/room/small/")
    await expect(ben.locator(".state-word")).to_have_text("Room full")
    await expect(ben.locator(".notice")).to_contain_text("connects when somebody leaves")
    await alice.close()
    await ben.locator(".notice button").click()
    await connected(ben)
    await expect(ben.locator(".notice")).to_be_hidden()


async def test_who_may_no_longer_enter_is_told(town: Town) -> None:
    page = await town.enter("ben", "narrowing")
    await town.shell("Room.objects.filter(name='narrowing').update(members_only=True)")
    await page.evaluate("""() => {
        dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true }));
        dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }));
    }""")
    await expect(page.locator(".state-word")).to_have_text("No access")
    await expect(page.locator(".notice")).to_contain_text("You don't have access to this room")


async def test_the_tab_tells_of_new_messages_while_nobody_looks(town: Town) -> None:
    ben = await town.enter("ben", "tab")
    title = await ben.title()
    elsewhere = await ben.context.new_page()
    await elsewhere.bring_to_front()
    await ben.evaluate("document.hasFocus = () => false")
    alice = await town.enter("alice", "tab")
    await say(alice, "psst")
    await expect(ben).to_have_title(f"(1) {title}")
    assert "icon-new" in str(await ben.locator("#icon").get_attribute("href"))
    await ben.evaluate("dispatchEvent(new Event('focus'))")
    await expect(ben).to_have_title(title)


async def test_the_draft_of_each_room_is_kept(town: Town) -> None:
    alice = await town.enter("alice", "draft-one")
    await alice.fill("#text", "not finished")
    await alice.goto("/chat/room/draft-two/")
    await expect(alice.locator("#text")).to_have_value("")
    await alice.goto("/chat/room/draft-one/")
    await expect(alice.locator("#text")).to_have_value("not finished")
    await say(alice, "finished")
    await expect(alice.locator(".log .text")).to_have_text(["finished"])
    await alice.reload()
    await expect(alice.locator("#text")).to_have_value("")
