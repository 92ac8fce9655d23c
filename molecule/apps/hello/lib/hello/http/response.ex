defmodule Hello.Http.Response do
  @moduledoc "Writes HTTP/1.1 answers as iodata."

  @reasons %{
    200 => "OK",
    301 => "Moved Permanently",
    400 => "Bad Request",
    403 => "Forbidden",
    404 => "Not Found",
    405 => "Method Not Allowed",
    413 => "Content Too Large",
    426 => "Upgrade Required",
    431 => "Request Header Fields Too Large",
    500 => "Internal Server Error",
    501 => "Not Implemented",
    503 => "Service Unavailable"
  }

  @doc "`keep?` says whether the connection stays open; `body?` is false in answer to HEAD."
  def encode({status, headers, body}, keep?, body? \\ true) do
    length = Integer.to_string(IO.iodata_length(body))
    connection = if keep?, do: "keep-alive", else: "close"
    all = [{"content-length", length}, {"connection", connection} | headers]
    [line(status), Enum.map(all, &header/1), "\r\n", if(body?, do: body, else: [])]
  end

  def continue, do: "HTTP/1.1 100 Continue\r\n\r\n"

  def switching(accept) do
    headers = [{"upgrade", "websocket"}, {"connection", "Upgrade"}, {"sec-websocket-accept", accept}]
    ["HTTP/1.1 101 Switching Protocols\r\n", Enum.map(headers, &header/1), "\r\n"]
  end

  defp line(status) do
    ["HTTP/1.1 ", Integer.to_string(status), " ", Map.get(@reasons, status, "Status"), "\r\n"]
  end

  defp header({name, value}), do: [name, ": ", value, "\r\n"]
end
