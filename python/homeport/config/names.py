"""Reserved names: those that Debian, systemd or Homeport use."""

from __future__ import annotations

# users and groups of Debian 12 and 13, base system and what Homeport may install (base-passwd, /etc/group)
_USERS = """
    root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc gnats nobody
    nogroup adm tty disk kmem dialout fax voice cdrom floppy tape sudo audio dip operator src shadow
    utmp video sasl plugdev staff users input sgx kvm render crontab netdev clock ssh sshd messagebus
    polkitd ssl-cert tcpdump tss uuidd epmd postgres mysql redis caddy nginx litestream docker podman
    deploy admin debian ubuntu wheel
"""

# the app's data is in /var/lib/<app>: these directories there are used by other programs
_DIRECTORIES = """
    apt dpkg dbus misc pam pam-d private python ucf vim git containers machines portables polkit
    postgresql pgbackrest logrotate grub apparmor ca-certificates nfs ntp ntpsec chrony dhcp dhcpcd
    sgml-base xml-core man-db os-prober initramfs-tools usbutils udisks2 upower cloud fail2ban
    unattended-upgrades needrestart nftables lxc lxd snapd
"""

# the app's unit is <app>@.service: these templates are in use
_UNITS = """
    getty autovt serial-getty container-getty console-getty modprobe user user-runtime-dir capsule
    e2scrub ifup wg-quick openvpn lvm2-pvscan rsync quotacheck machine
"""

# words of hostctl's own command line and of the directories beside the apps' own
_HOMEPORT = "homeport hostctl edge boot host firewall"

RESERVED_APPS = frozenset(f"{_USERS} {_DIRECTORIES} {_UNITS} {_HOMEPORT}".split())
RESERVED_LOGINS = frozenset(f"{_USERS} {_HOMEPORT}".split()) - {"deploy", "admin", "debian", "ubuntu"}
RESERVED_PREFIXES = ("systemd-", "homeport-")
# <app>-build is the user who builds an app's releases on the host
BUILD_SUFFIX = "-build"
# the suffixes of the units beside an app, such as homeport-<app>-litestream.service
_BESIDE = """
    accessory backup certs cron drain drill job litestream migrate notify postgres remove run settings tail
    transition watch
"""

_HOMEPORT_SETS = "Homeport sets it itself"
_SYSTEMD_SETS = "systemd sets it for the instance"
RESERVED_ENV = {
    "PORT": "Homeport gives every instance a port of its own",
    "PHX_SERVER": f"{_HOMEPORT_SETS} (true)",
    "MIX_ENV": f"{_HOMEPORT_SETS} (prod)",
    "LANG": f"{_HOMEPORT_SETS} (C.UTF-8)",
    "RELEASE_COOKIE": "the host keeps a cookie of its own for every app",
    "RELEASE_DISTRIBUTION": f"{_HOMEPORT_SETS} (name)",
    "RELEASE_NODE": f"{_HOMEPORT_SETS}: a node that listens nowhere",
    "RELEASE_TMP": f"{_HOMEPORT_SETS}: the release itself is read-only",
    "RELEASE_ROOT": "the release's own script sets it",
    "RELEASE_NAME": "the release's own script sets it",
    "RELEASE_VSN": "the release's own script sets it",
    "RELEASE_COMMAND": "the release's own script sets it",
    "RELEASE_PROG": "the release's own script sets it",
    "NOTIFY_SOCKET": _SYSTEMD_SETS,
    "INVOCATION_ID": _SYSTEMD_SETS,
    "JOURNAL_STREAM": _SYSTEMD_SETS,
    "STATE_DIRECTORY": _SYSTEMD_SETS,
    "RUNTIME_DIRECTORY": _SYSTEMD_SETS,
    "CREDENTIALS_DIRECTORY": _SYSTEMD_SETS,
    "HOME": _SYSTEMD_SETS,
    "USER": _SYSTEMD_SETS,
    "LOGNAME": _SYSTEMD_SETS,
    "SHELL": _SYSTEMD_SETS,
}


def env_reason(name: str) -> str:
    """Why an app's environment cannot have this variable; "" if it can."""
    if name.startswith("HOMEPORT_"):
        return "names that begin with HOMEPORT_ are Homeport's own"
    return RESERVED_ENV.get(name, "")


def app_reason(name: str) -> str:
    """Why an app cannot have this name; "" if it can."""
    if name in RESERVED_APPS:
        return "is taken by the system or by Homeport"
    if name.startswith(RESERVED_PREFIXES):
        return "begins with systemd- or homeport-, which are taken"
    if name.endswith(BUILD_SUFFIX):
        return f"ends with {BUILD_SUFFIX}, which is how the users who build are named"
    return "is how Homeport names what is beside another app" if app_stem(name) != name else ""


def app_stem(name: str) -> str:
    """The name without a suffix of the units beside an app."""
    stem = name.partition("-accessory-")[0]
    first, _, last = stem.rpartition("-")
    return first if first and last in (*_BESIDE.split(), BUILD_SUFFIX[1:]) else stem
