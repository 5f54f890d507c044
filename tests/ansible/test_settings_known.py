"""The roles know every setting of the application: each is set by them or may be given in channelbox_settings."""

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
    # of one process, set by its unit
    "CHANNELBOX_INSTANCE",
    # what production refuses
    "CHANNELBOX_MODE",
    "CHANNELBOX_DEBUG",
    "CHANNELBOX_LAYER",
    # of the package's own making
    "CHANNELBOX_SERVE_STATIC",
    "CHANNELBOX_STATIC_ROOT",
    "CHANNELBOX_VENDOR_DIR",
    # nodes that share one Redis with another installation
    "CHANNELBOX_REDIS_PREFIX",
}


def test_every_setting_is_known_to_the_roles() -> None:
    given = set(yaml.safe_load((ANSIBLE / "roles/shared_vars/meta/settings.yml").read_text()))
    template = (ANSIBLE / "roles/app/vars/main.yml").read_text()
    assert {name for name in SET_BY_THE_ROLES if name not in template} == set()
    assert given | SET_BY_THE_ROLES | NOT_FOR_A_CLUSTER == set(settings.env.known)
