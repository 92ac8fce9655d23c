defmodule Guestbook.Version do
  @moduledoc "The version this build was made as: the file `VERSION`. The one module that differs between two."

  # Relative, so that the module comes out the same wherever it is built.
  @external_resource "VERSION"
  @version String.trim(File.read!("VERSION"))

  def current, do: @version
end
