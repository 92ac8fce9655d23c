defmodule UmbrellaCoreTest do
  use ExUnit.Case, async: true

  test "greets" do
    assert UmbrellaCore.greeting() =~ "core"
  end
end
