"""Becoming the appliance: its settings and its user.

An administrator types `sudo channelbox status`; the settings are in a file that only root and the service may read, and
what the command writes (SQLite's files, a session) must belong to the service. So, before Django is loaded:

- no /etc/channelbox/channelbox.env: this is a checkout, nothing is done;
- as root: the file is read, and the process becomes the user `channelbox` with all of its groups (Redis' socket is
  for a group);
- as that user: the file is read;
- as anybody else: refused, with the remedy.

The file alone counts: CHANNELBOX_* variables of the caller are dropped, lest one that was left in an administrator's
shell point a command at another database. Only within a unit the environment wins: systemd has read the file already,
and the instance's own file (web@2.env) after it.
"""

import os
import pwd
from collections.abc import MutableMapping
from pathlib import Path

from channelbox.cli.environment_file import parse
from channelbox.cli.errors import CliError

ENVIRONMENT_FILE = Path("/etc/channelbox/channelbox.env")
SERVICE_USER = "channelbox"


def started_by_systemd(environment: MutableMapping[str, str]) -> bool:
    """Whether this process is the one that a unit started: systemd.exec(5) says so of SYSTEMD_EXEC_PID."""
    return environment.get("SYSTEMD_EXEC_PID") == str(os.getpid())


def become_service(
    file: Path = ENVIRONMENT_FILE,
    user: str = SERVICE_USER,
    environment: MutableMapping[str, str] = os.environ,
) -> None:
    """Takes on the appliance's settings and user, if this is an appliance.

    Raises CliError when the caller may not, or when the appliance is incomplete.
    """
    if not os.path.lexists(file):
        return
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise CliError(
            f"{file} exists, but there is no system user {user!r}.",
            "Reinstall the package: apt install --reinstall channelbox",
        ) from None
    if os.geteuid() not in (0, account.pw_uid):
        raise CliError(f"This command must run as root or as the user {user}.", "Run it with sudo.")
    in_unit = started_by_systemd(environment)
    if not in_unit or os.geteuid() == 0:
        try:
            settings = parse(file.read_text())
        except OSError as error:
            raise CliError(
                f"{file} cannot be read: {error.strerror}.", f"Its mode and owner should be 0640 root:{user}."
            ) from None
        if not in_unit:
            for name in [name for name in environment if name.startswith("CHANNELBOX_")]:
                del environment[name]
        for name, value in settings.items():
            environment.setdefault(name, value)
    if os.geteuid() == 0:
        os.initgroups(user, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
        environment.update(HOME=account.pw_dir, USER=user, LOGNAME=user)
        # The caller's directory, say /root, may be closed to the service.
        os.chdir("/")
