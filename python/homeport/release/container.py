"""Builds a release in a container of the host's Debian release."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from homeport.core.errors import HomeportError
from homeport.release import mix, source, tree
from homeport.release.cache import Cache
from homeport.release.command import Report, run
from hostctl.common.release import artifact

NAMES = ("Containerfile", "Dockerfile")
# The variable, in release.env or in the environment, that names another image for the build.
IMAGE = "ELIXIR_IMAGE"
DEFAULT_CODENAME = "trixie"
PACKAGES = "elixir erlang-nox erlang-dev build-essential git ca-certificates"
LABEL = "homeport.app"


def own_file(root: Path, configured: str | None) -> Path | None:
    """The repository's own Containerfile: the configured one, else one beside mix.exs."""
    if configured:
        return root / configured
    return next((root / name for name in NAMES if (root / name).is_file()), None)


def build(
    root: Path,
    release: str,
    env: dict[str, str],
    report: Report,
    *,
    engine: str,
    codename: str = "",
    containerfile: Path | None = None,
) -> Path:
    """Build the release in a container and return its directory, below the project's `_build`.

    Without a Containerfile one is generated, for the Debian release `codename`. Raises HomeportError.
    """
    out = root / "_build" / "homeport" / f"{release}-image"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    variables = mix.environment(env)
    if containerfile:
        run(build_command(engine, containerfile, root, out, env), root, env, report)
    else:
        _build_generated(root, release, variables, report, engine, codename or DEFAULT_CODENAME, out)
    return tree.find(out, release)


def _build_generated(
    root: Path, release: str, env: dict[str, str], report: Report, engine: str, codename: str, out: Path
) -> None:
    with tempfile.TemporaryDirectory(prefix="homeport-") as temporary:
        work = Path(temporary)
        made = source.pack(root, Cache(f"{release}.source", work))
        artifact.unpack(made.tar, work / "context")
        base = env.get(IMAGE) or os.environ.get(IMAGE) or f"docker.io/library/debian:{codename}-slim"
        tag = f"localhost/homeport-elixir:{re.sub('[^a-zA-Z0-9_.-]', '-', base)[:120]}"
        (work / "base").write_text(base_file(base))
        (work / "app").write_text(app_file(tag, release, mix.read(root), sorted(env)))
        run(base_command(engine, work / "base", work / "context", tag), root, env, report)
        try:
            run(build_command(engine, work / "app", work / "context", out, env), root, env, report)
        finally:
            _prune(engine, release, root, report)


def _prune(engine: str, release: str, root: Path, report: Report) -> None:
    """Remove the app's layers, half a gigabyte per build, which the next build cannot use."""
    with suppress(HomeportError):
        run([engine, "image", "prune", "--force", "--filter", f"label={LABEL}={release}"], root, {}, report)


def base_file(image: str) -> str:
    """The Containerfile of an image with mix. The image has a tag, so that `_prune` does not remove it."""
    install = f"apt-get update && apt-get install -y --no-install-recommends {PACKAGES}"
    return f"FROM {image}\nRUN command -v mix >/dev/null || ({install})\n"


def app_file(base: str, release: str, project: mix.Project, variables: list[str]) -> str:
    """The Containerfile for a project without one. The output of mix is in a cache mount."""
    # two checkouts with the same name must not share compiled files
    checkout = hashlib.sha256(str(project.root.resolve()).encode()).hexdigest()[:12]
    mounts = " ".join(
        f"--mount=type=cache,id=homeport-{release}-{checkout}-{name},target=/src/{name},sharing=locked"
        for name in ("_build", "deps")
    )
    steps = " && ".join(shlex.join(argv) for argv in mix.commands(project, release, "/release"))
    label = f"LABEL {LABEL}={release}"
    return "\n".join(
        [
            f"FROM {base} AS build",
            label,
            "WORKDIR /src",
            "COPY . .",
            *(f"ARG {name}" for name in variables),
            f"RUN {mounts} {steps}",
            "FROM scratch",
            label,
            "COPY --from=build /release /",
            "",
        ]
    )


def base_command(engine: str, file: Path, context: Path, tag: str) -> list[str]:
    return [engine, "build", *_isolation(engine), "--tag", tag, "--file", str(file), str(context)]


def build_command(engine: str, file: Path, context: Path, out: Path, env: dict[str, str]) -> list[str]:
    """The command of a build whose last stage is written to `out`. Values of variables come from the environment."""
    arguments = [part for name in sorted(env) for part in ("--build-arg", name)]
    output = ["--output", f"type=local,dest={out}"]
    return [engine, "build", *_isolation(engine), *arguments, *output, "--file", str(file), str(context)]


def _isolation(engine: str) -> list[str]:
    """Podman's options: its runtime cannot set limits under cgroups 1 or hybrid, but a chroot needs none."""
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    return ["--isolation=chroot"] if engine == "podman" and not unified else []
