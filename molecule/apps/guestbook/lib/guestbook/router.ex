defmodule Guestbook.Router do
  @moduledoc "One request in, one answer out: `{status, headers, body}`."

  alias Hello.Http.Request
  alias Hello.Json
  alias Guestbook.{Entries, Version}

  def call(%Request{} = request), do: route(request.method, request.path, request)

  defp route("HEAD", path, request), do: route("GET", path, request)
  defp route("GET", "/health", _), do: health(Entries.last())
  defp route("GET", "/version", _), do: json(facts())
  defp route("GET", "/count", _), do: json(Entries.count())
  defp route("GET", "/rows", request), do: rows(Integer.parse(Map.get(request.query, "after", "0")))
  defp route("POST", "/echo", request), do: echo(request, Entries.add(request.body))
  defp route("GET", _, _), do: text(404, "not found")
  defp route(_, _, _), do: text(405, "method not allowed")

  # A database that does not answer, or that nobody migrated, has raised by now: 500.
  defp health(_last), do: text(200, "ok")

  # Answered only now that the row is committed: whoever has the answer has the row.
  defp echo(request, _number) do
    type = Map.get(request.headers, "content-type", "application/octet-stream")
    {200, [{"content-type", type}], request.body}
  end

  defp rows({number, ""}), do: json(Entries.rows_after(number))
  defp rows(_), do: text(400, "after must be a number")

  defp facts do
    %{
      version: Version.current(),
      release: System.get_env("HOMEPORT_RELEASE", ""),
      port: Application.fetch_env!(:guestbook, :port),
      pid: String.to_integer(System.pid())
    }
  end

  defp json(value), do: {200, [{"content-type", "application/json"}], Json.encode(value)}
  defp text(status, body), do: {status, [{"content-type", "text/plain; charset=utf-8"}], body}
end
