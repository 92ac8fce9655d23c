defmodule Guestbook.Pool do
  @moduledoc """
  The sessions that the requests share, and the requests that wait for one.

  While the server is away its sessions are opened again and again, and the requests wait, up to 15 s.
  """

  use Supervisor

  alias Guestbook.{Database.Error, Queue, Worker}

  @patience_ms 15_000

  def start_link(size), do: Supervisor.start_link(__MODULE__, size, name: __MODULE__)

  @impl true
  def init(size) do
    workers = for number <- 1..size, do: Supervisor.child_spec(Worker, id: number)
    Supervisor.init([Queue | workers], strategy: :one_for_all)
  end

  @doc "The rows of one statement. Raises Guestbook.Database.Error."
  def query!(sql, parameters) do
    case Queue.ask({sql, parameters}, @patience_ms) do
      {:ok, rows} -> rows
      {:error, error} -> raise error
      :timeout -> raise Error, message: "no answer from PostgreSQL within #{@patience_ms} ms", undone?: false
    end
  end
end
