"""Takes on the settings and the user of an installed node.

An administrator types `sudo channelbox status`. The settings are in a file that only root and the service may read, and
what the command writes (SQLite's files, a session) must belong to the service. So, before Django is loaded:

- without /etc/channelbox/channelbox.env this is a checkout, and nothing is done;
- as root, the file is read, and the process becomes the user `channelbox` with all of its groups (Redis' socket is
  accessible to a group);
- as that user, the file is read;
- as any other user, the command is refused, with the remedy.

Only the file counts: CHANNELBOX_* variables of the caller are dropped, so that one left in an administrator's shell
cannot point a command at another database. Only within a unit does the environment take precedence, because systemd
has already read the file, and the instance's own file (web@2.env) after it.
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
    """Return whether systemd itself started this process for a unit (SYSTEMD_EXEC_PID in systemd.exec(5))."""
    return environment.get("SYSTEMD_EXEC_PID") == str(os.getpid())


def become_service(
    file: Path = ENVIRONMENT_FILE,
    user: str = SERVICE_USER,
    environment: MutableMapping[str, str] = os.environ,
) -> None:
    """Take on the settings and the user of an installed node, if this is one.

    `file`: the settings. `user`: the service's. `environment` is changed in place. Raises CliError when the caller may
    not do this, or when the installation is incomplete.
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
        # The caller's directory, e.g. /root, may be inaccessible to the service.
        os.chdir("/")
