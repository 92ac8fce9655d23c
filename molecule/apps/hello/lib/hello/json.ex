defmodule Hello.Json do
  @moduledoc "Writes JSON: OTP has had a module for it only since 27."

  def encode(map) when is_map(map) do
    members = for key <- Enum.sort(Map.keys(map)), do: [string(key), ":", encode(map[key])]
    ["{", Enum.intersperse(members, ","), "}"]
  end

  def encode(list) when is_list(list) do
    ["[", list |> Enum.map(&encode/1) |> Enum.intersperse(","), "]"]
  end

  def encode(value) when is_nil(value), do: "null"
  def encode(value) when is_boolean(value) or is_number(value), do: to_string(value)
  def encode(value) when is_binary(value) or is_atom(value), do: string(value)

  defp string(value) do
    [?", for(<<char::utf8 <- to_string(value)>>, do: escape(char)), ?"]
  end

  defp escape(char) when char in [?", ?\\], do: [?\\, char]

  defp escape(char) when char < 32 do
    ["\\u", char |> Integer.to_string(16) |> String.pad_leading(4, "0")]
  end

  defp escape(char), do: <<char::utf8>>
end
