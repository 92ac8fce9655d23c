defmodule Hello.Http.Request do
  @moduledoc """
  Reads HTTP/1.1 requests from bytes; does no input or output.

  `head/1` reads the request line and the headers, `body/2` what follows. Both return
  `{:ok, request, rest}`, `:more` when bytes are missing, or `{:error, status}`.
  """

  defstruct [:method, :target, :path, query: %{}, headers: %{}, body: "", keep_alive?: true]

  @largest_head 64 * 1024
  @largest_body 8 * 1024 * 1024

  def head(buffer) do
    case :erlang.decode_packet(:http_bin, buffer, []) do
      {:ok, {:http_request, method, {:abs_path, target}, version}, rest} ->
        headers(rest, %{}, request(to_string(method), target), version)

      {:more, _} ->
        more(buffer)

      _ ->
        {:error, 400}
    end
  end

  defp more(buffer) when byte_size(buffer) > @largest_head, do: {:error, 431}
  defp more(_), do: :more

  defp request(method, target) do
    uri = :binary.split(target, "?")
    query = uri |> Enum.at(1, "") |> decode_query()
    %__MODULE__{method: method, target: target, path: hd(uri), query: query}
  end

  defp decode_query(text) do
    URI.decode_query(text)
  rescue
    ArgumentError -> %{}
  end

  defp headers(buffer, headers, request, version) do
    case :erlang.decode_packet(:httph_bin, buffer, []) do
      {:ok, {:http_header, _, name, _, value}, rest} ->
        headers(rest, add(headers, String.downcase(to_string(name)), value), request, version)

      {:ok, :http_eoh, rest} ->
        checked(%{request | headers: headers, keep_alive?: keep_alive?(headers, version)}, rest)

      {:more, _} ->
        more(buffer)

      _ ->
        {:error, 400}
    end
  end

  # A repeated Content-Length or Host becomes a list, which no later check takes for a value.
  defp add(headers, name, value), do: Map.update(headers, name, value, &(&1 <> ", " <> value))

  defp checked(%{headers: %{"content-length" => _, "transfer-encoding" => _}}, _), do: {:error, 400}
  defp checked(request, rest), do: {:ok, request, rest}

  defp keep_alive?(headers, version) do
    case {version, String.downcase(Map.get(headers, "connection", ""))} do
      {_, "close"} -> false
      {{1, 0}, connection} -> connection == "keep-alive"
      _ -> true
    end
  end

  def body(%{headers: %{"transfer-encoding" => coding}} = request, buffer) do
    if String.downcase(coding) == "chunked", do: chunks(request, buffer, [], 0), else: {:error, 501}
  end

  def body(%{headers: %{"content-length" => length}} = request, buffer) do
    case Integer.parse(length) do
      {length, ""} when length > @largest_body -> {:error, 413}
      {length, ""} when length >= 0 -> sized(request, buffer, length)
      _ -> {:error, 400}
    end
  end

  def body(request, buffer), do: {:ok, request, buffer}

  # Compared before it is matched: a binary that was matched is copied at the next append.
  defp sized(_request, buffer, length) when byte_size(buffer) < length, do: :more

  defp sized(request, buffer, length) do
    <<body::binary-size(length), rest::binary>> = buffer
    {:ok, %{request | body: body}, rest}
  end

  defp chunks(request, buffer, done, total) do
    with [line, rest] <- :binary.split(buffer, "\r\n"),
         {size, _extension} when size >= 0 and total + size <= @largest_body <- Integer.parse(line, 16) do
      chunk(request, rest, size, done, total)
    else
      [_] -> :more
      {size, _} when size > 0 -> {:error, 413}
      _ -> {:error, 400}
    end
  end

  # Trailers are not asked for, so none is accepted: the last chunk ends with an empty line.
  defp chunk(request, rest, 0, done, _total) do
    case rest do
      "\r\n" <> rest -> {:ok, %{request | body: done |> Enum.reverse() |> IO.iodata_to_binary()}, rest}
      short when short in ["", "\r"] -> :more
      _ -> {:error, 400}
    end
  end

  defp chunk(request, rest, size, done, total) do
    case rest do
      <<data::binary-size(size), "\r\n", rest::binary>> -> chunks(request, rest, [data | done], total + size)
      _ when byte_size(rest) >= size + 2 -> {:error, 400}
      _ -> :more
    end
  end

  @doc "The host asked for, in lower case and without the port."
  def host(%{headers: headers}) do
    headers |> Map.get("host", "") |> String.downcase() |> String.replace(~r/:\d+\z/, "")
  end

  def gzip?(%{headers: headers}), do: Map.get(headers, "accept-encoding", "") =~ "gzip"

  def expects_continue?(%{headers: headers}) do
    String.downcase(Map.get(headers, "expect", "")) == "100-continue"
  end
end
