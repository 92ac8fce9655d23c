defmodule Guestbook.Connection do
  @moduledoc """
  One session with PostgreSQL, over a Unix socket or TCP without TLS, used by one process at a time.

  The messages are Debian's erlang-p1-pgsql's. The socket is ours: version 1.1.20, which Debian 12 has, cannot
  connect to one of Unix, and no version tells whether a statement that failed had been sent.
  """

  alias Guestbook.{Database.Error, Scram, Url}

  @connect_ms 5_000
  @answer_ms 60_000
  # the version of the protocol, 3.0, as the greeting has it
  @protocol 196_608
  # int8, int2 and int4: everything else stays text
  @numbers [20, 21, 23]
  # who asks, as pg_stat_activity shows it
  @name "guestbook"

  @doc "A session with the server that the DATABASE_URL names. Raises Guestbook.Database.Error."
  def open(url) do
    %{place: {address, port}} = at = Url.parse(url)
    options = [:binary, active: false, packet: :raw, send_timeout: @answer_ms]

    case :gen_tcp.connect(address, port, options, @connect_ms) do
      {:ok, socket} -> greet(socket, at)
      {:error, reason} -> raise Error, lost("no connection: #{:inet.format_error(reason)}", true)
    end
  end

  def close(socket) do
    :gen_tcp.send(socket, :pgsql_proto.encode_message(:terminate, []))
    :gen_tcp.close(socket)
  end

  @doc """
  The rows of one statement as tuples. Raises Guestbook.Database.Error, which says whether the session has ended,
  and whether it is certain that the statement did nothing.

  A session that the server ended while it was idle is noticed before anything is sent.
  """
  def query!(socket, sql, parameters, patience \\ @answer_ms) do
    check_open!(socket)
    send!(socket, request(sql, parameters))
    collect(socket, {sql, patience}, [], [])
  end

  defp greet(socket, at) do
    pairs = ["user", at.user, "database", at.database, "application_name", @name]
    body = IO.iodata_to_binary([<<@protocol::32>>, Enum.map(pairs, &[&1, 0]), 0])
    send!(socket, [<<byte_size(body) + 4::32>>, body])
    authenticate(socket, at, Scram.new(at.password))
    ready(socket, {"the greeting", @answer_ms})
    socket
  rescue
    error ->
      :gen_tcp.close(socket)
      reraise error, __STACKTRACE__
  end

  # 0: let in; 10 to 12: the steps of SASL
  defp authenticate(socket, at, scram) do
    case message(socket, {"the greeting", @connect_ms}) do
      {:authenticate, {0, _}} ->
        :ok

      {:authenticate, {10, _}} ->
        first = {Scram.mechanism(), Scram.first(scram)}
        send!(socket, :pgsql_proto.encode_message(:sasl_initial_response, first))
        authenticate(socket, at, scram)

      {:authenticate, {11, challenge}} ->
        scram = Scram.answer(scram, challenge)
        send!(socket, :pgsql_proto.encode_message(:sasl_response, scram.final))
        authenticate(socket, at, scram)

      {:authenticate, {12, proof}} ->
        true = Scram.proven?(scram, proof)
        authenticate(socket, at, scram)

      {:error_message, fields} ->
        raise Error, lost(said(fields), true)
    end
  end

  defp check_open!(socket) do
    case :gen_tcp.recv(socket, 0, 0) do
      {:error, :timeout} -> :ok
      _ -> raise Error, lost("the session was ended while it was idle", true)
    end
  end

  # Numbers travel as text, and text as it is: its binary form is the same.
  defp request(sql, parameters) do
    [
      parse: {"", sql, []},
      bind: {"", "", parameters, [:text]},
      describe: {:portal, ""},
      execute: {"", 0},
      sync: []
    ]
    |> Enum.map(fn {kind, values} -> :pgsql_proto.encode_message(kind, values) end)
  end

  defp collect(socket, asked, columns, rows) do
    case message(socket, asked) do
      {:row_description, described} ->
        collect(socket, asked, Enum.map(described, &elem(&1, 3)), rows)

      {:data_row, row} ->
        collect(socket, asked, columns, [typed(columns, row) | rows])

      {:command_complete, _} ->
        ready(socket, asked)
        Enum.reverse(rows)

      {:error_message, fields} ->
        fail(socket, fields, asked)

      _ ->
        collect(socket, asked, columns, rows)
    end
  end

  defp typed(columns, row), do: columns |> Enum.zip_with(row, &value/2) |> List.to_tuple()

  defp value(_, :null), do: nil
  defp value(type, text) when type in @numbers, do: String.to_integer(text)
  defp value(_, text), do: text

  defp ready(socket, asked) do
    case message(socket, asked) do
      {:ready_for_query, _} -> :ok
      {:error_message, fields} -> fail(socket, fields, asked, false)
      _ -> ready(socket, asked)
    end
  end

  # What ends the session before the statement was completed has undone it: it commits after that, at `sync`.
  defp fail(socket, fields, {sql, _} = asked, undone? \\ true) do
    if {?V, "ERROR"} in fields do
      ready(socket, asked)
      raise Error, message: "#{said(fields)}: #{sql}", code: fields[:code]
    else
      raise Error, lost(said(fields), undone?)
    end
  end

  defp said(fields),
    do: "#{fields[:message]} (#{fields[:code]})#{if detail = fields[:detail], do: "; #{detail}"}"

  defp message(socket, {_, patience} = asked) do
    <<code, size::32>> = receive!(socket, 5, patience)
    body = if size > 4, do: receive!(socket, size - 4, patience), else: ""
    {:ok, message} = :pgsql_proto.decode_packet(code, body, true)
    if elem(message, 0) in [:parameter_status, :notice_response], do: message(socket, asked), else: message
  end

  defp receive!(socket, size, patience) do
    case :gen_tcp.recv(socket, size, patience) do
      {:ok, bytes} -> bytes
      {:error, reason} -> raise Error, lost("the session was lost: #{inspect(reason)}", false)
    end
  end

  defp send!(socket, data) do
    with {:error, reason} <- :gen_tcp.send(socket, data),
         do: raise(Error, lost("the session was lost: #{inspect(reason)}", false))
  end

  defp lost(message, undone?), do: [message: message, lost?: true, undone?: undone?]
end
