"""The node works: people sign in and talk, and others are refused."""

from probe.people import Browser, Door, Member


async def test_two_windows_of_the_administrator_talk_through_nginx(room: str, admin: Browser, door: Door) -> None:
    async with Member(admin, room, door) as first, Member(admin, room, door) as second:
        await first.says("hello")
        await second.hears("hello")


def test_http_leads_to_https(admin: Browser, plain_door: Door) -> None:
    status, _ = Browser(plain_door).request("GET", "/chat/")
    assert status in (301, 308)


def test_pages_and_their_files_are_served(admin: Browser) -> None:
    for path in ("/chat/", "/chat/dashboard/", "/admin/", "/healthz", "/static/admin/css/base.css"):
        status, _ = admin.request("GET", path)
        assert status == 200, path


async def test_a_foreign_origin_and_a_stranger_are_told_why(room: str, admin: Browser, door: Door) -> None:
    foreign = Member(admin, room, door, origin="https://elsewhere.example")
    await foreign.enter(welcome=False)
    assert (await foreign.ends())[0] == 4003
    stranger = Member(Browser(door), room, door)
    await stranger.enter(welcome=False)
    assert (await stranger.ends())[0] == 4001
