defmodule Hello.Static do
  @moduledoc "Files under priv/static, and the digested names that `mix assets.deploy` gave them."

  @types %{".css" => "text/css", ".js" => "text/javascript", ".json" => "application/json"}

  @doc "The path to link to: the digested one where there is one."
  def path(logical) do
    "/" <> Map.get(latest(), logical, logical)
  end

  @doc "`{:ok, headers, body}` of a file below priv/static, or `:error`."
  def fetch("/" <> path, gzip?) do
    with {:ok, safe} <- safe(path),
         {:ok, type} <- Map.fetch(@types, Path.extname(safe)),
         {:ok, encoding, body} <- read(Path.join(root(), safe), gzip?) do
      {:ok, [{"content-type", type}, {"cache-control", cache(safe)}, {"vary", "accept-encoding"} | encoding],
       body}
    else
      _ -> :error
    end
  end

  defp safe(path) do
    if ".." in Path.split(path) or String.contains?(path, "\0"), do: :error, else: {:ok, path}
  end

  defp read(file, true) do
    case File.read(file <> ".gz") do
      {:ok, body} -> {:ok, [{"content-encoding", "gzip"}], body}
      _ -> read(file, false)
    end
  end

  defp read(file, false) do
    with {:ok, body} <- File.read(file), do: {:ok, [], body}
  end

  defp cache(path) do
    if path =~ ~r/-[0-9a-f]{32}\./, do: "public, max-age=31536000, immutable", else: "no-cache"
  end

  # Read once: the files of a release never change under it. Only a "latest" entry has a digested name
  # for its value, so no JSON parser is needed.
  defp latest do
    case :persistent_term.get(__MODULE__, nil) do
      nil -> tap(read_latest(), &:persistent_term.put(__MODULE__, &1))
      latest -> latest
    end
  end

  defp read_latest do
    case File.read(Path.join(root(), "cache_manifest.json")) do
      {:ok, text} -> pairs(text)
      {:error, :enoent} -> %{}
    end
  end

  defp pairs(text) do
    ~r/"([^"]+)":\s*"([^"]+-[0-9a-f]{32}\.[^"]+)"/
    |> Regex.scan(text, capture: :all_but_first)
    |> Map.new(&List.to_tuple/1)
  end

  defp root, do: Application.app_dir(:hello, "priv/static")
end
