"""deploy init: what is found in mix projects, and the deploy.yml that is written from it."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeport.app_source.elixir import Source
from homeport.app_source.mix_project import detect
from homeport.config.check import plain
from homeport.config.document import parse
from homeport.config.keys import levels
from homeport.config.layers import load
from homeport.config.model import Config
from homeport.config.problems import ConfigError
from homeport.core.errors import HomeportError
from homeport.verbs.init import command

SCHEMA = Path(__file__).resolve().parents[4] / "docs" / "reference" / "deploy.schema.json"
EXAMPLE = files("homeport").joinpath("docs", "deploy.yml").read_text(encoding="utf-8")

PHOENIX = """defmodule MyShop.MixProject do
  use Mix.Project

  def project do
    [
      app: :my_shop,
      version: "0.1.0",
      aliases: aliases(),
      deps: deps()
    ]
  end

  defp deps do
    [
      {:phoenix, "~> 1.8"},
      {:ecto_sqlite3, ">= 0.0.0"},
      # {:postgrex, ">= 0.0.0"},
      {:bandit, "~> 1.5"}
    ]
  end

  defp aliases do
    [
      setup: ["deps.get", "ecto.setup"],
      "assets.deploy": ["tailwind my_shop --minify", "phx.digest"]
    ]
  end
end
"""

ROUTER = """defmodule MyShopWeb.Router do
  use MyShopWeb, :router

  pipeline :api do
    plug :accepts, ["json"]
  end

  # get "/healthz", Old, :show
  scope "/", MyShopWeb do
    pipe_through :browser
    get "/", PageController, :home

    scope "/internal" do
      get "/up", HealthController, :show
    end
    get "/orders/:id/status", OrderController, :status
  end
end
"""


REPO = """# defmodule MyShop.Old do
defmodule MyShop.Data.Repo do
  @moduledoc "use Ecto.Repo, otp_app: :other"
  use Ecto.Repo,
    otp_app: :my_shop,
    adapter: Ecto.Adapters.SQLite3
end
"""

SETTINGS = """
  # config/runtime.exs, below `if config_env() == :prod do`:
  #   config :{app}, {repo},
  #     wal_auto_check_point: 0, busy_timeout: 5000, journal_mode: :wal
  engine: sqlite
"""


def put(root: Path, **contents: str) -> Path:
    """Write files; `__` in a name stands for a directory's slash."""
    for name, text in contents.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def mix(body: str, rest: str = "") -> str:
    return f"defmodule A.MixProject do\n  use Mix.Project\n  def project do\n    [{body}]\n  end\n{rest}\nend\n"


def run(*args: str) -> str:
    result = CliRunner().invoke(command, list(args))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def written(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((root / "deploy.yml").read_text())
    return found


# the example


def uncommented(text: str) -> str:
    return re.sub(r"^(\s*)#(?=[a-z_]+:)", r"\1", text, flags=re.MULTILINE)


def placed(text: str) -> str:
    return text.replace("203.0.113.10", "198.51.100.7").replace("example.com", "test")


def test_the_example_loads_once_host_and_domain_are_set(tmp_path: Path) -> None:
    (tmp_path / "deploy.yml").write_text(placed(EXAMPLE))

    config = load(start=tmp_path).config

    assert config == Config.model_validate(
        {
            "app": "shop",
            "host": "198.51.100.7",
            "domains": ["shop.test"],
            "env": {"secret": ["SECRET_KEY_BASE"]},
        }
    )


def test_the_example_names_every_key_with_its_default(tmp_path: Path) -> None:
    (tmp_path / "deploy.yml").write_text(placed(EXAMPLE))
    before = load(start=tmp_path).config
    tree, problems = parse(uncommented(placed(EXAMPLE)), "deploy.yml")
    (tmp_path / "deploy.yml").write_text(uncommented(placed(EXAMPLE)))

    assert problems == []
    assert load(start=tmp_path).config == before
    told = plain(tree)
    for path, keys in levels().items():
        section = told
        for part in path:
            section = section[part]
        assert list(section) == list(keys), f"keys of {path or 'the top'}, in the order of the model"


def test_the_example_as_it_is_asks_for_host_and_domain(tmp_path: Path) -> None:
    (tmp_path / "deploy.yml").write_text(EXAMPLE)

    with pytest.raises(ConfigError) as caught:
        load(start=tmp_path)

    assert [problem.key for problem in caught.value.problems] == ["host", "domains[0]"]


def test_every_comment_of_the_example_begins_with_a_space_or_a_key() -> None:
    comments = [line.strip() for line in EXAMPLE.splitlines() if line.strip().startswith("#")]

    assert [line for line in comments if not re.match(r"# |#[a-z_]+: ", line)] == []


# what is written


def test_a_phoenix_project_becomes_a_deploy_yml(tmp_path: Path) -> None:
    put(
        tmp_path,
        **{
            "mix.exs": PHOENIX,
            "lib__my_shop_web__router.ex": ROUTER,
            "rel__overlays__bin__migrate": "#!/bin/sh\n",
        },
    )
    put(tmp_path, **{".tool-versions": "erlang 27.2\nelixir 1.18.3-otp-27 # why\nnodejs 22\n"})

    put(tmp_path, **{"lib__my_shop__repo.ex": REPO})
    given = ("--host", "root@198.51.100.7", "--domain", "Shop.test", "--bucket", "shop-backups")

    said = run(str(tmp_path), *given)

    assert said == f"wrote {tmp_path / 'deploy.yml'} and .deploy.schema.json\nnext: deploy config\n"
    config = load(start=tmp_path).config
    assert (config.app, config.release.name, config.host) == ("my-shop", "my_shop", "root@198.51.100.7")
    assert (config.names, config.health.path) == (("shop.test",), "/internal/up")
    assert config.release.commands.migrate == "bin/migrate"
    assert (config.env.clear, config.env.secret) == ({}, ("SECRET_KEY_BASE",))
    assert (config.database.engine, config.database.path) == ("sqlite", "my-shop.db")
    assert (config.backup.bucket, config.backup.prefix) == ("shop-backups", "my-shop")
    assert SETTINGS.format(app="my_shop", repo="MyShop.Data.Repo") in (tmp_path / "deploy.yml").read_text()
    assert (tmp_path / "deploy.yml").read_text().split("\n\n")[1] == (
        "# Found here:\n"
        "# mix project in mix.exs, release my_shop\n"
        "# .tool-versions: erlang 27.2, elixir 1.18.3-otp-27\n"
        "# assets.deploy: run in every build\n"
        "# database: SQLite (ecto_sqlite3), streamed to backup.bucket; see the settings below\n"
        "# health route: /internal/up"
    )


def test_the_first_line_names_the_schema_that_lies_beside_it(tmp_path: Path) -> None:
    put(tmp_path, **{"mix.exs": PHOENIX})

    run(str(tmp_path))

    named = (tmp_path / "deploy.yml").read_text().splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    assert (tmp_path / named).read_bytes() == SCHEMA.read_bytes()


def test_a_schema_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    put(tmp_path, **{"mix.exs": PHOENIX, ".deploy.schema.json": "{}"})

    run(str(tmp_path))

    assert (tmp_path / ".deploy.schema.json").read_text() == "{}"


def test_what_is_not_known_is_a_placeholder_that_is_refused(tmp_path: Path) -> None:
    put(tmp_path, **{"mix.exs": PHOENIX})

    said = run(str(tmp_path))

    assert said.endswith("next: set host, domains and backup.bucket in it, then: deploy config\n")
    with pytest.raises(ConfigError) as caught:
        load(start=tmp_path)
    assert [str(problem.what) for problem in caught.value.problems] == [
        'is still the placeholder: write the address of your host (got "203.0.113.10")',
        'is still the placeholder: write a name of yours (got "my-shop.example.com")',
        'is still the placeholder: write the name of your bucket (got "example-backups")',
    ]


def test_one_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    put(tmp_path, **{"mix.exs": PHOENIX, "deploy.yml": "mine"})

    with pytest.raises(HomeportError) as caught:
        run(str(tmp_path))

    error = caught.value
    assert (error.what, error.where, error.code) == (
        "there is a deploy.yml already, and it stays as it is",
        str(tmp_path / "deploy.yml"),
        2,
    )
    assert (tmp_path / "deploy.yml").read_text() == "mine"


def test_a_link_that_leads_nowhere_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "deploy.yml").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(HomeportError, match=r"there is a deploy\.yml already"):
        run(str(tmp_path))

    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("option", "given", "what"),
    [
        ("--app", "Shop", "app must be lower-case letters, digits and -, a letter first, at most 31"),
        (
            "--app",
            "caddy",
            "app caddy is taken by the system or by Homeport: choose another, such as my-caddy",
        ),
        ("--host", "a b", "host must be an address, user@host:port, or an alias of ~/.ssh/config"),
        ("--domain", "localhost", "domain must be a name such as shop.example.org"),
        ("--bucket", "Shop", "bucket must be 3 to 63 lower-case letters, digits, - and ."),
    ],
)
def test_what_is_said_is_checked_before_anything_is_written(tmp_path: Path, option: str, given: str, what: str) -> None:
    with pytest.raises(HomeportError) as caught:
        run(str(tmp_path), option, given)

    assert (caught.value.what, caught.value.where, caught.value.code) == (what, f"{option} {given}", 2)
    assert not (tmp_path / "deploy.yml").exists()


def test_an_address_in_brackets_survives_yaml(tmp_path: Path) -> None:
    put(tmp_path, **{"mix.exs": PHOENIX})

    run(str(tmp_path), "--host", "[2001:db8::1]", "--domain", "shop.test", "--bucket", "shop-backups")

    assert load(start=tmp_path).config.host == "[2001:db8::1]"


def test_a_name_that_is_taken_is_changed_but_the_release_is_not(tmp_path: Path) -> None:
    put(tmp_path, **{"mix.exs": mix("app: :backup")})

    run(str(tmp_path))

    assert (written(tmp_path)["app"], written(tmp_path)["release"]["name"]) == ("backup-app", "backup")


def test_postgres_runs_on_the_host_and_is_backed_up(tmp_path: Path) -> None:
    put(
        tmp_path,
        **{"mix.exs": PHOENIX.replace("ecto_sqlite3", "postgrex").replace("# {:postgrex", "# {:none")},
    )

    run(str(tmp_path), "--host", "a.test", "--domain", "a.test", "--bucket", "shop-backups")

    assert written(tmp_path)["env"] == {"clear": {}, "secret": ["SECRET_KEY_BASE"]}
    assert "# database: PostgreSQL (postgrex), on the host" in (tmp_path / "deploy.yml").read_text()
    config = load(start=tmp_path).config
    assert (config.database.engine, config.backup.bucket, config.backed_up) == ("postgres", "shop-backups", True)


def test_without_a_repo_in_sight_its_usual_name_is_told(tmp_path: Path) -> None:
    put(tmp_path, **{"mix.exs": PHOENIX})

    run(str(tmp_path))

    assert SETTINGS.format(app="my_shop", repo="MyShop.Repo") in (tmp_path / "deploy.yml").read_text()


def test_without_phoenix_nothing_is_asked_that_only_phoenix_needs(tmp_path: Path) -> None:
    put(tmp_path, **{"mix.exs": mix("app: :plain")})

    run(str(tmp_path), "--host", "a.test", "--domain", "a.test")

    config = load(start=tmp_path).config
    assert (config.env.secret, config.health.path, config.release.commands.migrate) == ((), "/", None)


def test_a_project_one_directory_below_is_found(tmp_path: Path) -> None:
    put(tmp_path, **{"server__mix.exs": PHOENIX})

    run(str(tmp_path))

    assert written(tmp_path)["release"]["path"] == "server"


def test_without_a_project_the_directory_gives_the_name(tmp_path: Path) -> None:
    root = tmp_path / "My Shop"
    root.mkdir()

    run(str(root))

    assert written(root)["app"] == "my-shop"
    assert "# no mix.exs, here or in one directory below: set release.path" in (root / "deploy.yml").read_text()


def test_where_no_name_can_be_had_one_is_asked_for(tmp_path: Path) -> None:
    root = tmp_path / "123"
    root.mkdir()

    run(str(root), "--host", "a.test", "--domain", "a.test")

    with pytest.raises(ConfigError) as caught:
        load(start=root)
    assert [problem.key for problem in caught.value.problems] == ["app"]


# what is found


RELEASES = [
    ("app: :shop", "shop", ()),
    ('app: :shop, releases: [other: [steps: [:assemble]], "my-shop": []]', "other", ("other", "my-shop")),
    ("app: :shop, releases: [a: [], shop: [applications: [x: :permanent]]]", "shop", ("a", "shop")),
    ("app: @app", "attribute", ()),
    ('app: :"quoted", name: "app: :wrong"', "quoted", ()),
    ("deps: [{:x, app: :wrong}], app: :shop", "shop", ()),
    ("app: # :wrong\n :shop", "shop", ()),
    ('description: """\n app: :wrong\n "quote\n """, app: :shop', "shop", ()),
    ("version: ~s(app: :wrong), app: :shop", "shop", ()),
    ('x: ?", app: :shop, y: ?#', "shop", ()),
    ("mapp: :wrong, app: :shop", "shop", ()),
    ("app: :shop, releases: releases()", "fun", ("fun", "second")),
]


@pytest.mark.parametrize(("body", "release", "releases"), RELEASES, ids=[body for body, _, _ in RELEASES])
def test_names_are_read_from_mix_exs(tmp_path: Path, body: str, release: str, releases: tuple[str, ...]) -> None:
    rest = "  @app :attribute\n  defp releases do\n    [fun: [a: 1], second: []]\n  end\n"
    put(tmp_path, **{"mix.exs": mix(body, rest)})

    project = detect(tmp_path)

    assert project is not None
    assert (project.release, project.releases) == (release, releases)


def test_a_project_in_one_line(tmp_path: Path) -> None:
    put(tmp_path, **{"mix.exs": "defmodule A do\n  def project, do: [app: :shop, deps: []]\nend\n"})

    project = detect(tmp_path)

    assert project is not None
    assert project.app == "shop"


def test_an_umbrella_is_read_with_its_apps(tmp_path: Path) -> None:
    put(
        tmp_path,
        **{
            "mix.exs": mix('apps_path: "apps", releases: [whole: [applications: [web: :permanent]]]'),
            "apps__web__mix.exs": PHOENIX.replace("my_shop", "web"),
            "apps__web__lib__web__router.ex": ROUTER,
            "apps__core__mix.exs": mix('app: :core, deps: [{:postgrex, "> 0"}]'),
        },
    )

    project = detect(tmp_path)

    assert project is not None
    assert (project.umbrella, project.app, project.release) == (True, None, "whole")
    assert {"phoenix", "postgrex", "ecto_sqlite3"} <= project.dependencies
    assert (project.assets, project.health) == (True, "/internal/up")


def test_an_umbrella_without_a_release_asks_for_its_name(tmp_path: Path) -> None:
    put(tmp_path, **{"mix.exs": mix('apps_path: "apps"')})

    run(str(tmp_path))

    assert (
        "umbrella project in mix.exs, release without a name: set release.name" in (tmp_path / "deploy.yml").read_text()
    )


ROUTES = [
    ('get "/health", H, :i', ["/health"]),
    ('get("/health", H, :i)', ["/health"]),
    ('get "/up", H, :i\nget "/health", H, :j', ["/up", "/health"]),
    ('scope "/api", A do\n get "/health", H, :i\nend\nget "/up", H, :i', ["/api/health", "/up"]),
    ('scope "/a/" do\n if fun(do: 1) do\n end\n get "/up", H, :i\nend', ["/a/up"]),
    ('pipeline :x do\n plug fn c -> c end\nend\nget "/up", H, :i', ["/up"]),
    ('plug Health, path: "/healthz"', ["/healthz"]),
    ('def call(%{request_path: "/up"} = conn, _) do\nend', ["/up"]),
    ('# get "/health", H, :i', []),
    ('x = "get \\"/health\\""', []),
    ('post "/health", H, :i', []),
    ('forget "/health"', []),
]  # fmt: skip


REPOS = [
    ("defmodule A.Repo do\n use Ecto.Repo, otp_app: :a, adapter: X\nend", [("a", "A.Repo")]),
    ("defmodule A.Repo do\n use(Ecto.Repo, adapter: X, otp_app: :a)\nend", [("a", "A.Repo")]),
    ("defmodule A do\nend\ndefmodule B do\n use Ecto.Repo, otp_app: :b\nend", [("b", "B")]),
    ("defmodule A do\n # use Ecto.Repo, otp_app: :a\nend", []),
    ("defmodule A do\n use Ecto.Repository, otp_app: :a\nend", []),
    ("defmodule A do\n use Ecto.Repo\nend", []),
    ("use Ecto.Repo, otp_app: :a", []),
]


@pytest.mark.parametrize(("source", "repos"), REPOS, ids=[source for source, _ in REPOS])
def test_repos_are_read_with_their_application(source: str, repos: list[tuple[str, str]]) -> None:
    assert Source(source).repos() == repos


@pytest.mark.parametrize(("source", "routes"), ROUTES, ids=[source for source, _ in ROUTES])
def test_routes_are_read_with_their_scopes(source: str, routes: list[str]) -> None:
    assert Source(source).routes() == routes


def test_the_usual_name_of_a_health_route_is_preferred(tmp_path: Path) -> None:
    put(
        tmp_path,
        **{
            "mix.exs": PHOENIX,
            "lib__router.ex": 'get "/status", S, :i\nget "/up", U, :i\nget "/health", H, :i\n',
        },
    )

    project = detect(tmp_path)

    assert project is not None
    assert project.health == "/health"


def test_a_directory_without_mix_exs_is_no_project(tmp_path: Path) -> None:
    assert detect(tmp_path) is None


pieces = st.sampled_from(
    [
        *("def project do", "do", "end", "fn", "scope ", "releases: ", "releases()", "apps_path: ", "app: ", ":shop"),
        *("[", "]", "{", "}", "@app ", 'get "/up"', ", ", " ", "\n", "#", "?", '?"', "\\"),
        *('"', "'", '"""', "~s(", "~S|"),
        *("{:ecto_sqlite3, ", "defmodule ", "A.Repo do ", "use Ecto.Repo, ", "otp_app: "),
    ]
)
sources = st.text() | st.lists(pieces, max_size=40).map("".join)


@given(sources)
def test_the_two_texts_of_a_source_line_up(text: str) -> None:
    source = Source(text)

    assert len(source.code) == len(source.skeleton) == len(text)
    assert source.code.count("\n") == text.count("\n")
    for code, skeleton, given_ in zip(source.code, source.skeleton, text, strict=True):
        assert skeleton in (code, " ")
        assert code in (given_, " ")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(sources, sources)
def test_any_source_gives_a_file_that_can_be_read(tmp_path: Path, project: str, router: str) -> None:
    (tmp_path / "deploy.yml").unlink(missing_ok=True)
    for name, text in (("mix.exs", project), ("lib/router.ex", router), ("lib/repo.ex", router)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text.encode("utf-8", "surrogatepass"))

    run(str(tmp_path), "--app", "shop", "--host", "a.test", "--domain", "a.test", "--bucket", "shop-backups")

    keys: list[str] = []
    try:
        load(start=tmp_path)
    except ConfigError as error:
        keys = [problem.key for problem in error.problems]
    # the one thing that is taken over from a project though Homeport may refuse it
    assert keys in ([], ["release.name"])
