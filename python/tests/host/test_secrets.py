"""Values of deploy.secrets.yml on their way to the app: they get there, and nowhere else."""

from __future__ import annotations

from pathlib import Path

from homeport.sandbox import Sandbox
from homeport.secrets import ansible_vault as vault
from tests.host.support import APP, Project, on_host

PASSWORD, OF_THE_FILE, OF_A_COMMAND = "correct-horse-battery", "marker-of-the-file", "marker-of-a-command"


def test_values_of_the_file_and_of_commands_reach_the_app_and_nobody_else(
    live: Sandbox, project: Project, artifacts: dict[int, Path]
) -> None:
    project.configure(
        env={"secret": ["STRIPE_KEY", "MAIL_KEY"]},
        secrets={"password_file": ".vault", "commands": {"MAIL_KEY": "cat mail"}},
    )
    (project.root / "mail").write_text(f"{OF_A_COMMAND}\n")
    (project.root / ".vault").write_text(f"{PASSWORD}\n")
    (project.root / ".vault").chmod(0o600)
    (project.root / "deploy.secrets.sandbox.yml").write_bytes(vault.seal(f"STRIPE_KEY: {OF_THE_FILE}\n", PASSWORD))

    done = project.deploy("-v", "push", "--artifact", artifacts[2])

    assert not {word for word in (PASSWORD, OF_THE_FILE, OF_A_COMMAND) if word in done.out + done.err}
    unit = f"{APP}@{project.live()}.service"
    environment = on_host(live, f"tr '\\0' '\\n' < /proc/$(systemctl show -P MainPID {unit})/environ").splitlines()
    assert {f"STRIPE_KEY={OF_THE_FILE}", f"MAIL_KEY={OF_A_COMMAND}"} <= set(environment)
    assert PASSWORD not in "\n".join(environment)
    holding = on_host(live, f"grep -rlIE 'marker-of|{PASSWORD}' /etc /home /run /srv /tmp /var /root || true")
    # in memory, for the app's user alone
    names = ("environment", "secret_MAIL_KEY", "secret_STRIPE_KEY")
    assert sorted(holding.splitlines()) == [f"/run/credentials/{unit}/{name}" for name in names]
    assert on_host(live, "journalctl --no-pager | grep -cE 'marker-of' || true") == "0"
    assert "marker-of" not in on_host(live, f"systemctl show {unit}; systemctl cat {unit}")


def test_a_push_with_a_wrong_password_ends_before_the_host_is_asked(live: Sandbox, project: Project) -> None:
    before = on_host(live, f"ls -la --time-style=full-iso /var/lib/homeport/{APP}")
    project.configure(env={"secret": ["STRIPE_KEY"]})
    (project.root / "deploy.secrets.yml").write_bytes(vault.seal(f"STRIPE_KEY: {OF_THE_FILE}\n", PASSWORD))

    done = project.deploy("push", env={"HOMEPORT_VAULT_PASSWORD": "another password"}, check=False)

    assert done.code == 2
    assert done.err.startswith("error: the vault password does not open the file\n  where: deploy.secrets.yml\n")
    assert on_host(live, f"ls -la --time-style=full-iso /var/lib/homeport/{APP}") == before
