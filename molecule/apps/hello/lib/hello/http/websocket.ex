defmodule Hello.Http.Websocket do
  @moduledoc "A websocket that sends every message back; on `:drain` it says 1001, going away."

  alias Hello.Http.Frame

  @magic "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
  @largest 1024 * 1024
  @farewell_ms 1_000

  @doc "`{:ok, accept}` with the answer to a proper handshake, else `:error` (RFC 6455, section 4.2)."
  def accept(%{"sec-websocket-key" => key, "sec-websocket-version" => "13"} = headers) do
    if upgrade?(headers), do: {:ok, Base.encode64(:crypto.hash(:sha, key <> @magic))}, else: :error
  end

  def accept(_), do: :error

  defp upgrade?(headers) do
    String.downcase(Map.get(headers, "upgrade", "")) == "websocket" and
      String.downcase(Map.get(headers, "connection", "")) =~ "upgrade"
  end

  @doc "Serves the socket until either side closes it. `buffer` holds what came after the handshake."
  def serve(socket, buffer), do: next(%{socket: socket, buffer: buffer, message: nil})

  defp next(state) do
    case Frame.decode(state.buffer) do
      {:ok, frame, rest} -> handle(frame, %{state | buffer: rest})
      :more -> more(state)
      {:error, code} -> farewell(state, code)
    end
  end

  defp more(state) do
    :inet.setopts(state.socket, active: :once)

    receive do
      {:tcp, _, data} -> next(%{state | buffer: state.buffer <> data})
      :drain -> farewell(state, 1001)
      _closed -> :gen_tcp.close(state.socket)
    end
  end

  defp handle({:ping, _, payload}, state), do: send_then(state, :pong, payload)
  defp handle({:pong, _, _}, state), do: next(state)

  defp handle({:close, _, payload}, state) do
    send_frame(state, :close, binary_part(payload, 0, min(2, byte_size(payload))))
    :gen_tcp.close(state.socket)
  end

  defp handle({:continuation, _, _}, %{message: nil} = state), do: farewell(state, 1002)

  defp handle({:continuation, last?, payload}, %{message: {opcode, sofar}} = state) do
    gathered(opcode, last?, sofar <> payload, state)
  end

  defp handle({_, _, _}, %{message: {_, _}} = state), do: farewell(state, 1002)
  defp handle({opcode, last?, payload}, state), do: gathered(opcode, last?, payload, state)

  defp gathered(_, _, payload, state) when byte_size(payload) > @largest, do: farewell(state, 1009)
  defp gathered(opcode, true, payload, state), do: send_then(%{state | message: nil}, opcode, payload)
  defp gathered(opcode, false, payload, state), do: next(%{state | message: {opcode, payload}})

  defp send_then(state, opcode, payload) do
    case send_frame(state, opcode, payload) do
      :ok -> next(state)
      {:error, _} -> :gen_tcp.close(state.socket)
    end
  end

  # The client answers a close with its own; without waiting for it, its last frames would be reset.
  defp farewell(state, code) do
    send_frame(state, :close, <<code::16>>)
    :gen_tcp.shutdown(state.socket, :write)
    await_end(state.socket)
    :gen_tcp.close(state.socket)
  end

  defp await_end(socket) do
    :inet.setopts(socket, active: :once)

    receive do
      {:tcp, _, _} -> await_end(socket)
      {:tcp_closed, _} -> :ok
      {:tcp_error, _, _} -> :ok
    after
      @farewell_ms -> :ok
    end
  end

  defp send_frame(state, opcode, payload), do: :gen_tcp.send(state.socket, Frame.encode(opcode, payload))
end
