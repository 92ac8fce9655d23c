defmodule Shop.Application do
  @moduledoc false

  use Application

  # The guard asks without starting the app.
  @impl true
  def start(_type, _args), do: raise("the app was started")
end

defmodule Shop.Repo do
  @moduledoc false
  use Ecto.Repo, otp_app: :shop, adapter: Ecto.Adapters.SQLite3
end

defmodule Shop.Cache do
  @moduledoc false
  use Ecto.Repo, otp_app: :shop, adapter: Ecto.Adapters.SQLite3
end

defmodule Shop.Elsewhere do
  @moduledoc false
  use Ecto.Repo, otp_app: :shop, adapter: Ecto.Adapters.Postgres
end
