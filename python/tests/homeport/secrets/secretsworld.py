"""A project with a deploy.yml and a password, and the verb run in it as a person runs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from unittest.mock import patch

# here, where the streams are real ones: loaded by the first verb it would write warnings into what that prints
import ansible.utils.display  # noqa: F401

from homeport.cli import main
from homeport.config.layers import Loaded, load
from homeport.secrets import ansible_vault

PASSWORD = "correct-horse-battery"
TOP = "app: shop\nhost: 198.51.100.7\ndomains: [shop.test]\n"
DEPLOY = Path(sys.executable).with_name("deploy")


@dataclass(frozen=True)
class Done:
    """What a run of `deploy` came to."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def printed(self) -> str:
        return self.stdout + self.stderr


@dataclass(frozen=True)
class Project:
    """A directory with a deploy.yml."""

    root: Path

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def configure(self, more: str) -> Project:
        self.write("deploy.yml", TOP + more)
        return self

    def password(self, text: str = PASSWORD, name: str = ".vault") -> Path:
        path = self.write(name, text + "\n")
        path.chmod(0o600)
        return path

    def seal(self, text: str, name: str = "deploy.secrets.yml", password: str = PASSWORD) -> Path:
        path = self.root / name
        path.write_bytes(ansible_vault.seal(text, password))
        return path

    def unsealed(self, name: str = "deploy.secrets.yml", password: str = PASSWORD) -> str:
        return ansible_vault.unseal((self.root / name).read_bytes(), password)

    def load(self, destination: str | None = None) -> Loaded:
        return load(None, destination, self.root)

    def deploy(self, *words: str, given: str = "", environ: Mapping[str, str] | None = None) -> Done:
        """Run `deploy` here, with `given` on standard input. In this process: it takes a second to start another."""
        out, err, before = StringIO(), StringIO(), dict(os.environ)
        stdin = TextIOWrapper(BytesIO(given.encode()))
        with redirect_stdout(out), redirect_stderr(err), patch.multiple(sys, stdin=stdin, argv=["deploy", *words]):
            try:
                os.environ.pop("VISUAL", None)
                os.environ.update(environ or {})
                main(list(words))
                status = 0
            except SystemExit as end:
                status = int(end.code or 0)
            finally:
                os.environ.clear()
                os.environ.update(before)
        return Done(status, out.getvalue(), err.getvalue())
