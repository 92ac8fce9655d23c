defmodule Guestbook.Url do
  @moduledoc """
  A DATABASE_URL, read as Ecto reads it: `ecto://user:password@host:port/database?socket_dir=/run/postgresql`.

  A `socket_dir` goes before the host, and the port then only names the socket in it, as Postgrex has it.
  """

  defmodule Error do
    defexception [:message]
  end

  @port 5432

  @doc "The place of the server, for `:gen_tcp`, and who asks for what there. Raises Guestbook.Url.Error."
  def parse(url) do
    uri = URI.parse(url)
    query = URI.decode_query(uri.query || "")
    [user | password] = String.split(uri.userinfo || "", ":", parts: 2)

    %{
      place: place(query["socket_dir"], uri.host, uri.port || @port),
      user: URI.decode(user),
      password: password |> Enum.join() |> URI.decode(),
      database: database(uri.path)
    }
  end

  # The URL itself is never told: it may hold a password.
  defp database("/" <> name) when name != "", do: URI.decode(name)
  defp database(_), do: raise(Error, "DATABASE_URL names no database")

  defp place(nil, host, _) when host in [nil, ""],
    do: raise(Error, "DATABASE_URL names neither host nor socket_dir")

  defp place(nil, host, port), do: {to_charlist(host), port}
  defp place(directory, _, port), do: {{:local, "#{directory}/.s.PGSQL.#{port}"}, 0}
end
