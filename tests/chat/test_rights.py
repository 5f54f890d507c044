"""Who may enter which room, for many at once."""

import pytest
from pytest_django import DjangoAssertNumQueries, Settings

from channelbox.accounts.models import User
from channelbox.chat.models import Room
from channelbox.chat.rights import Person, look_up
from channelbox.realtime.codes import Code, Refused

pytestmark = pytest.mark.django_db

GUEST = Person("g:1", "guest-1")


def test_a_crowd_for_rooms_that_are_there_costs_one_query(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    Room.objects.create(name="a")
    Room.objects.create(name="b")
    people = [Person(f"u:{number}", f"member-{number}", number) for number in range(1, 21)]
    asked = [(person, room) for person in people for room in "ab"]
    with django_assert_num_queries(1):
        entered = look_up(asked)
    assert {key: room.name for key, room in entered.items() if isinstance(room, Room)} == {key: key[1] for key in asked}


def test_each_is_judged_alone(django_assert_num_queries: DjangoAssertNumQueries, settings: Settings) -> None:
    settings.CHANNELBOX_ROOM_CREATION = "users"
    Room.objects.create(name="closed", closed=True)
    users = [User.objects.create(username=name) for name in ("ann", "bob")]
    Room.objects.create(name="members", members_only=True).members.add(users[0])
    ann, bob = (Person(f"u:{user.pk}", user.username, user.pk) for user in users)
    with django_assert_num_queries(2):
        entered = look_up([(ann, "members"), (bob, "members"), (GUEST, "members"), (ann, "closed"), (GUEST, "new")])
    words = [room.frame["code"] if isinstance(room, Refused) else room.name for room in entered.values()]
    assert words == ["members", Code.NOT_ALLOWED, Code.NOT_ALLOWED, Code.NOT_ALLOWED]
    assert (GUEST, "new") not in entered
    assert not Room.objects.filter(name="new").exists()
