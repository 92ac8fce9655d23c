defmodule UmbrellaCore do
  @moduledoc "What the web child shows, so that the release needs both."

  def greeting, do: "Hello from the core"
end
