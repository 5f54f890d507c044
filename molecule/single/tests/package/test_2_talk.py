"""The node works: users sign in and chat, and others are refused."""

from probe.people import Browser, Endpoint, Member


async def test_two_clients_exchange_messages_through_nginx(room: str, admin: Browser, endpoint: Endpoint) -> None:
    async with Member(admin, room, endpoint) as first, Member(admin, room, endpoint) as second:
        await first.send("hello")
        await second.wait_for("hello")


def test_http_redirects_to_https(admin: Browser, http_endpoint: Endpoint) -> None:
    status, _ = Browser(http_endpoint).request("GET", "/chat/")
    assert status in (301, 308)


def test_pages_and_static_files_are_served(admin: Browser) -> None:
    for path in ("/chat/", "/chat/dashboard/", "/admin/", "/healthz", "/static/admin/css/base.css"):
        status, _ = admin.request("GET", path)
        assert status == 200, path


async def test_foreign_origins_and_anonymous_clients_are_refused(room: str, admin: Browser, endpoint: Endpoint) -> None:
    foreign = Member(admin, room, endpoint, origin="https://elsewhere.example")
    await foreign.enter(welcome=False)
    assert (await foreign.wait_closed())[0] == 4003
    anonymous = Member(Browser(endpoint), room, endpoint)
    await anonymous.enter(welcome=False)
    assert (await anonymous.wait_closed())[0] == 4001
