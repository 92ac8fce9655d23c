defmodule Hello.Router do
  @moduledoc "One request in, one answer out: `{status, headers, body}`, or `{:websocket, accept}`."

  alias Hello.{Json, Memory, Page, Static, Switches, Version}
  alias Hello.Http.{Request, Websocket}

  # What /env may tell: enough to test deploy.yml's env.clear, and nothing secret.
  @public_names ~w(GREETING HOMEPORT_APP HOMEPORT_RELEASE LANG MIX_ENV PHX_HOST PORT RELEASE_DISTRIBUTION)
  @loopback ["localhost", "127.0.0.1"]
  @longest_wait_ms 60_000

  def call(%Request{} = request) do
    host = Request.host(request)

    cond do
      not known?(host) -> text(400, "unknown host")
      insecure?(request, host) -> moved("https://#{host}#{request.target}")
      true -> route(request.method, request.path, request)
    end
  end

  defp known?(host) do
    not Switches.check_host?() or host in [Application.fetch_env!(:hello, :host) | @loopback]
  end

  # As Phoenix's force_ssl with rewrite_on: [:x_forwarded_proto].
  defp insecure?(request, host) do
    request.headers["x-forwarded-proto"] != "https" and
      (Map.has_key?(request.headers, "x-forwarded-proto") or host not in @loopback)
  end

  defp route("HEAD", path, request), do: route("GET", path, request)
  defp route("GET", "/health", _), do: health(Switches.health_status())
  defp route("GET", "/version", _), do: json(200, facts())
  defp route("GET", "/", _), do: {200, [{"content-type", "text/html; charset=utf-8"}], Page.html(facts())}
  defp route("POST", "/echo", request), do: echo(request)
  defp route("GET", "/slow", request), do: slow(number(request, "ms"))
  defp route("GET", "/memory", request), do: memory(number(request, "mb"))
  defp route("GET", "/env", request), do: env(request.query["name"])
  defp route("GET", "/websocket", request), do: websocket(Websocket.accept(request.headers))
  defp route("GET", path, request), do: static(Static.fetch(path, Request.gzip?(request)))
  defp route(_, _, _), do: text(405, "method not allowed")

  defp health(200), do: text(200, "ok")
  defp health(status), do: text(status, "not well: HELLO_HEALTH_STATUS=#{status}")

  defp facts do
    %{
      version: Version.current(),
      release: System.get_env("HOMEPORT_RELEASE", ""),
      port: Application.fetch_env!(:hello, :port),
      pid: String.to_integer(System.pid()),
      elixir: System.version(),
      otp: System.otp_release()
    }
  end

  defp echo(request) do
    type = Map.get(request.headers, "content-type", "application/octet-stream")
    {200, [{"content-type", type}], request.body}
  end

  defp slow({:ok, ms}) when ms <= @longest_wait_ms do
    Process.sleep(ms)
    text(200, "waited #{ms} ms")
  end

  defp slow(_), do: text(400, "ms must be 0 to #{@longest_wait_ms}")

  defp memory({:ok, mb}), do: text(200, "holding #{Memory.hold(mb)} MB")
  defp memory(:error), do: text(400, "mb must be a number")

  defp env(name) when name in @public_names, do: json(200, %{name => System.get_env(name)})
  defp env(_), do: text(403, "not one of #{Enum.join(@public_names, " ")}")

  defp websocket({:ok, accept}), do: {:websocket, accept}
  defp websocket(:error), do: text(426, "a websocket handshake is expected", [{"upgrade", "websocket"}])

  defp static({:ok, headers, body}), do: {200, headers, body}
  defp static(:error), do: text(404, "not found")

  defp number(request, name) do
    case Integer.parse(Map.get(request.query, name, "")) do
      {number, ""} when number >= 0 -> {:ok, number}
      _ -> :error
    end
  end

  defp moved(url), do: text(301, "moved to " <> url, [{"location", url}])
  defp json(status, map), do: {status, [{"content-type", "application/json"}], Json.encode(map)}

  defp text(status, body, headers \\ []) do
    {status, [{"content-type", "text/plain; charset=utf-8"} | headers], body}
  end
end
