"""Passwords of tests: kept in the product's format, at a cost that hundreds of test accounts can bear."""

from channelbox.accounts.hashers import Argon2


class Cheap(Argon2):
    time_cost, memory_cost = 1, 8
