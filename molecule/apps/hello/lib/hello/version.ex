defmodule Hello.Version do
  @moduledoc """
  The version this build was made as: `HELLO_VERSION` at build time, else the file `VERSION`.

  The one module that differs between two versions.
  """

  # Relative, so that the module comes out the same wherever it is built.
  @file_path "VERSION"
  @external_resource @file_path
  @version System.get_env("HELLO_VERSION") || String.trim(File.read!(@file_path))

  def current, do: @version

  # Mix asks this before it decides that nothing is to be compiled; it knows files, not the environment.
  def __mix_recompile__? do
    case {System.get_env("HELLO_VERSION"), File.read(@file_path)} do
      {nil, {:ok, text}} -> String.trim(text) != @version
      {nil, {:error, _}} -> false
      {version, _} -> version != @version
    end
  end
end
