defmodule Mix.Tasks.Hello.Digest do
  @shortdoc "Copies assets/ to priv/static/assets/ and digests them, as phx.digest does"
  @moduledoc """
  Writes what `mix phx.digest` writes: beside each file one named after its MD5, both gzipped, and
  priv/static/cache_manifest.json ("version" 1, "latest", "digests").

  A file that has not changed keeps its entry's time, so that a second run changes nothing;
  `SOURCE_DATE_EPOCH` sets it for builds that must come out the same elsewhere.
  """

  use Mix.Task

  @root "priv/static"
  @manifest "priv/static/cache_manifest.json"
  @unix_epoch 62_167_219_200

  @impl true
  def run(_) do
    digests = "assets/**/*.{css,js}" |> Path.wildcard() |> Enum.sort() |> Enum.map(&digest/1)
    write(@manifest, Hello.Json.encode(manifest(digests, previous())))
    Mix.shell().info("digested #{length(digests)} files into #{@root}")
  end

  defp digest(source) do
    content = File.read!(source)
    sum = Base.encode16(:erlang.md5(content), case: :lower)
    digested = Path.rootname(source) <> "-" <> sum <> Path.extname(source)
    Enum.each([source, digested], &store(Path.join(@root, &1), content))
    %{source: source, digested: digested, sum: sum, content: content}
  end

  defp store(path, content) do
    write(path, content)
    write(path <> ".gz", :zlib.gzip(content))
  end

  defp manifest(digests, previous) do
    %{
      version: 1,
      latest: Map.new(digests, &{&1.source, &1.digested}),
      digests: Map.new(digests, &{&1.digested, entry(&1, Map.get(previous, &1.digested, now()))})
    }
  end

  defp entry(file, mtime) do
    %{
      logical_path: file.source,
      mtime: mtime,
      size: byte_size(file.content),
      digest: file.sum,
      sha512: Base.encode64(:crypto.hash(:sha512, file.content))
    }
  end

  defp now do
    case System.get_env("SOURCE_DATE_EPOCH") do
      nil -> System.os_time(:second) + @unix_epoch
      seconds -> String.to_integer(seconds) + @unix_epoch
    end
  end

  defp previous do
    text = if File.exists?(@manifest), do: File.read!(@manifest), else: ""

    ~r/"(assets[^"]*-[0-9a-f]{32}\.\w+)":\{[^}]*"mtime":(\d+)/
    |> Regex.scan(text, capture: :all_but_first)
    |> Map.new(fn [path, mtime] -> {path, String.to_integer(mtime)} end)
  end

  defp write(path, content) do
    File.mkdir_p!(Path.dirname(path))
    File.write!(path, content)
  end
end
