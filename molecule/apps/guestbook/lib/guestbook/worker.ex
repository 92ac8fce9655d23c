defmodule Guestbook.Worker do
  @moduledoc """
  Keeps one session, runs statements in it, one after the other, and opens another when it is lost.

  A statement that certainly did nothing is run again, in another session; one that may have been done is not.
  """

  use Task, restart: :permanent

  alias Guestbook.{Connection, Database.Error, Queue}

  @retry_ms 100

  def start_link(_), do: Task.start_link(&connect/0)

  defp connect, do: :guestbook |> Application.fetch_env!(:database_url) |> open() |> serve()

  defp open(url) do
    Connection.open(url)
  rescue
    Error ->
      Process.sleep(@retry_ms)
      open(url)
  end

  defp serve(session) do
    job = {{sql, parameters}, _, _} = Queue.next()

    case run(session, sql, parameters) do
      {:error, %Error{lost?: true} = error} ->
        if error.undone?, do: Queue.again(job), else: Queue.reply(job, {:error, error})
        :gen_tcp.close(session)
        connect()

      answer ->
        Queue.reply(job, answer)
        serve(session)
    end
  end

  defp run(session, sql, parameters) do
    {:ok, Connection.query!(session, sql, parameters)}
  rescue
    error in Error -> {:error, error}
  end
end
