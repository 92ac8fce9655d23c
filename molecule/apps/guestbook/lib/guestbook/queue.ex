defmodule Guestbook.Queue do
  @moduledoc "Statements that wait for a session, and sessions that wait for a statement."

  use GenServer

  def start_link(_), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "What a worker answers to a statement; `:timeout` when none did in time."
  def ask(statement, patience) do
    GenServer.call(__MODULE__, {:ask, statement, now() + patience}, patience)
  catch
    :exit, {:timeout, _} -> :timeout
  end

  @doc "The next statement that somebody still waits for, with whom to `reply` to. Only workers ask."
  def next do
    {_, _, deadline} = job = GenServer.call(__MODULE__, :next, :infinity)
    if now() < deadline, do: job, else: next()
  end

  def reply({_, from, _}, answer), do: GenServer.reply(from, answer)

  @doc "Puts back, before all others, a statement that was not run."
  def again(job), do: GenServer.cast(__MODULE__, {:again, job})

  @impl true
  def init(_), do: {:ok, %{jobs: :queue.new(), workers: []}}

  @impl true
  def handle_call({:ask, statement, deadline}, from, state) do
    {:noreply, match(%{state | jobs: :queue.in({statement, from, deadline}, state.jobs)})}
  end

  def handle_call(:next, from, state), do: {:noreply, match(%{state | workers: [from | state.workers]})}

  @impl true
  def handle_cast({:again, job}, state), do: {:noreply, match(%{state | jobs: :queue.in_r(job, state.jobs)})}

  defp match(%{workers: [worker | others]} = state) do
    case :queue.out(state.jobs) do
      {{:value, job}, jobs} ->
        GenServer.reply(worker, job)
        %{state | jobs: jobs, workers: others}

      {:empty, _} ->
        state
    end
  end

  defp match(state), do: state
  defp now, do: System.monotonic_time(:millisecond)
end
