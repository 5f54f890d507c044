"""A password hasher for tests: the application's format, at a cost that is low enough for hundreds of accounts."""

from channelbox.accounts.hashers import Argon2


class Cheap(Argon2):
    time_cost, memory_cost = 1, 8
