"""What config/runtime.exs reads, told from its text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.app_source.elixir import Source
from homeport.app_source.runtime_env import reads

# what `mix phx.new` writes, as of Phoenix 1.7 and 1.8
PHOENIX = '''
import Config

# System.fetch_env!("COMMENTED")
if System.get_env("PHX_SERVER") do
  config :shop, ShopWeb.Endpoint, server: true
end

if config_env() == :prod do
  database_url =
    System.get_env("DATABASE_URL") ||
      raise """
      environment variable DATABASE_URL is missing.
      For example: System.fetch_env!("IN_A_TEXT")
      """

  maybe_ipv6 = if System.get_env("ECTO_IPV6") in ~w(true 1), do: [:inet6], else: []

  config :shop, Shop.Repo,
    url: database_url,
    pool_size: String.to_integer(System.get_env("POOL_SIZE") || "10"),
    socket_options: maybe_ipv6

  secret_key_base =
    System.get_env("SECRET_KEY_BASE") ||
      raise "environment variable SECRET_KEY_BASE is missing."

  host = System.get_env("PHX_HOST") || "example.com"
  port = String.to_integer(System.get_env("PORT", "4000"))
  config :shop, :dns_cluster_query, System.get_env("DNS_CLUSTER_QUERY")
  config :shop, api: System.fetch_env!("API_KEY")
end
'''


def told(text: str) -> dict[str, str]:
    """What each variable is to the app: `always` or `perhaps` needed, or `optional`."""
    return {read.name: read.need if read.required else "optional" for read in reads(Source(text))}


def test_phoenix_own_file_is_understood() -> None:
    assert told(PHOENIX) == {
        "PHX_SERVER": "optional",
        "DATABASE_URL": "always",
        "ECTO_IPV6": "optional",
        "POOL_SIZE": "optional",
        "SECRET_KEY_BASE": "always",
        "PHX_HOST": "optional",
        "PORT": "optional",
        "DNS_CLUSTER_QUERY": "optional",
        "API_KEY": "always",
    }


def test_a_read_knows_its_line() -> None:
    assert {read.name: read.line for read in reads(Source(PHOENIX))}["SECRET_KEY_BASE"] == 25


@pytest.mark.parametrize(
    ("text", "need"),
    [
        ('System.fetch_env!("A")', "always"),
        ('System.fetch_env! "A"', "always"),
        ('System.fetch_env!(\n  "A"\n)', "always"),
        ('"A" |> System.fetch_env!() |> String.to_integer()', "always"),
        ('if config_env() == :prod do\n  System.fetch_env!("A")\nend', "always"),
        ('if config_env() != :test do\n  System.fetch_env!("A")\nend', "always"),
        ('if Config.config_env() == :prod do\n  System.fetch_env!("A")\nend', "always"),
        ('if(config_env() in [:staging, :prod]) do\n  System.fetch_env!("A")\nend', "always"),
        ('unless config_env() in [:dev, :test] do\n  System.fetch_env!("A")\nend', "always"),
        ('if config_env() == :dev do\n  x\nelse\n  System.fetch_env!("A")\nend', "always"),
        ('case config_env() do\n  :dev -> x\n  :prod -> System.fetch_env!("A")\nend', "always"),
        ('if x do\n  y\nend\nSystem.fetch_env!("A")', "always"),
        ('if x do\n  System.fetch_env!("A")\nend', "perhaps"),
        ('if config_env() == :prod and x do\n  System.fetch_env!("A")\nend', "perhaps"),
        ('if config_env() == :prod do\n  if x do\n    System.fetch_env!("A")\n  end\nend', "perhaps"),
        ('x = if y, do: System.fetch_env!("A")', "perhaps"),
        ('x = if y,\n  do: 1,\n  else: System.fetch_env!("A")', "perhaps"),
        ('x = y || System.fetch_env!("A")', "perhaps"),
        ('x =\n  y ||\n    System.fetch_env!("A")', "perhaps"),
        ('case x do\n  :prod -> System.fetch_env!("A")\nend', "perhaps"),
        ('f = fn -> System.fetch_env!("A") end', "perhaps"),
        ('env!("A", :string)', "perhaps"),
        ('Dotenvy.env!("A", :string, "default")', "optional"),
        ('System.get_env("A", "default")', "optional"),
        ('System.fetch_env("A")', "optional"),
        ('System.get_env("A") || "default"', "optional"),
    ],
)
def test_only_what_is_certain_is_told_as_certain(text: str, need: str) -> None:
    assert told(text) == {"A": need}


@pytest.mark.parametrize(
    "text",
    [
        'if config_env() == :dev do\n  System.fetch_env!("A")\nend',
        'if config_env() == :prod do\n  x\nelse\n  System.fetch_env!("A")\nend',
        'case config_env() do\n  :prod -> x\n  :test -> System.fetch_env!("A")\nend',
        "System.fetch_env!(name)",
        'Application.fetch_env!("A")',
        'MySystem.fetch_env!("A")',
        '"System.fetch_env!(\\"A\\")"',
    ],
)
def test_what_never_happens_on_a_host_or_has_no_name_is_left_out(text: str) -> None:
    assert told(text) == {}


@settings(deadline=None)
@given(st.lists(st.sampled_from(['System.fetch_env!("A")', "if", "do", "end", "else", "fn", "(", ")", '"', "\n", " "])))
def test_any_text_can_be_read(parts: list[str]) -> None:
    reads(Source(" ".join(parts)))
