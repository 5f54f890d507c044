"""The roles know every setting of the application: they set it, or channelbox_settings may contain it."""

from pathlib import Path

import yaml

from channelbox import settings

ANSIBLE = Path(__file__).resolve().parents[2] / "ansible"

SET_BY_THE_ROLES = {
    "CHANNELBOX_SECRET_KEY",
    "CHANNELBOX_HOSTS",
    "CHANNELBOX_GUESTS",
    "CHANNELBOX_NODE",
    "CHANNELBOX_NODES",
    "CHANNELBOX_DATABASE_URL",
    "CHANNELBOX_REDIS_URL",
    "CHANNELBOX_REDIS_SENTINELS",
    "CHANNELBOX_REDIS_MASTER",
    "CHANNELBOX_REDIS_PASSWORD",
}
NOT_FOR_A_CLUSTER = {
    # set by the unit of each process
    "CHANNELBOX_INSTANCE",
    # refused in production
    "CHANNELBOX_MODE",
    "CHANNELBOX_DEBUG",
    "CHANNELBOX_LAYER",
    # set by the package
    "CHANNELBOX_SERVE_STATIC",
    "CHANNELBOX_STATIC_ROOT",
    "CHANNELBOX_VENDOR_DIR",
    # for nodes that share a Redis with another installation
    "CHANNELBOX_REDIS_PREFIX",
}


def test_the_roles_know_every_setting() -> None:
    given = set(yaml.safe_load((ANSIBLE / "roles/shared_vars/meta/settings.yml").read_text()))
    template = (ANSIBLE / "roles/app/vars/main.yml").read_text()
    assert {name for name in SET_BY_THE_ROLES if name not in template} == set()
    assert given | SET_BY_THE_ROLES | NOT_FOR_A_CLUSTER == set(settings.env.known)
