defmodule Hello.Http.Connection do
  @moduledoc """
  One client's connection: reads requests, answers them in turn, keeps the connection open between them.

  On `:drain` it finishes the request it has, says `connection: close` and ends. An idle one lingers a
  moment first: a request that is already on its way gets an answer instead of a reset, which matters
  for a POST, since nobody may send it again.
  """

  alias Hello.Http.{Request, Response, Websocket}

  # Longer than an edge keeps idle connections, so that the edge, not this side, closes them.
  @idle_ms 600_000
  @partial_ms 30_000
  @linger_ms 250

  def start(socket, router) do
    receive do
      :begin -> serve(%{socket: socket, router: router, buffer: "", draining?: false})
    after
      5_000 -> :ok
    end
  end

  defp serve(state) do
    case Request.head(state.buffer) do
      {:ok, request, rest} -> with_body(invite(request, state), %{state | buffer: rest})
      :more -> more(state, &serve/1)
      {:error, status} -> refuse(state, status)
    end
  end

  defp invite(request, state) do
    if Request.expects_continue?(request), do: write(state, Response.continue())
    request
  end

  defp with_body(request, state) do
    case Request.body(request, state.buffer) do
      {:ok, request, rest} -> answer(request, %{state | buffer: rest})
      :more -> more(state, &with_body(request, &1))
      {:error, status} -> refuse(state, status)
    end
  end

  defp answer(request, state) do
    case respond(request, state.router) do
      {:websocket, accept} -> upgrade(accept, state)
      response -> reply(request, response, drained(state))
    end
  end

  defp respond(request, router) do
    router.call(request)
  rescue
    error ->
      require Logger
      Logger.error(Exception.format(:error, error, __STACKTRACE__))
      {500, [], "internal error"}
  end

  defp reply(request, response, state) do
    keep? = request.keep_alive? and not state.draining?

    case write(state, Response.encode(response, keep?, request.method != "HEAD")) do
      :ok when keep? -> serve(state)
      _ -> close(state)
    end
  end

  defp upgrade(accept, state) do
    with :ok <- write(state, Response.switching(accept)),
         do: Websocket.serve(state.socket, state.buffer)
  end

  # Closing with unread bytes would reset the connection, and the client would not see why.
  defp refuse(state, status) do
    write(state, Response.encode({status, [], ""}, false))
    :gen_tcp.shutdown(state.socket, :write)
    :gen_tcp.recv(state.socket, 0, @linger_ms)
    close(state)
  end

  defp more(state, next) do
    :inet.setopts(state.socket, active: :once)

    receive do
      {:tcp, _, data} -> next.(%{state | buffer: state.buffer <> data})
      {:tcp_closed, _} -> :ok
      {:tcp_error, _, _} -> close(state)
      :drain -> more(%{state | draining?: true}, next)
    after
      patience(state) -> close(state)
    end
  end

  defp patience(%{buffer: "", draining?: true}), do: @linger_ms
  defp patience(%{buffer: ""}), do: @idle_ms
  defp patience(_), do: @partial_ms

  defp drained(state) do
    receive do
      :drain -> %{state | draining?: true}
    after
      0 -> state
    end
  end

  defp write(state, data), do: :gen_tcp.send(state.socket, data)
  defp close(state), do: :gen_tcp.close(state.socket)
end
