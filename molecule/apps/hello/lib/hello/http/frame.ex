defmodule Hello.Http.Frame do
  @moduledoc "Websocket frames (RFC 6455, section 5) from and to bytes; does no input or output."

  @largest 1024 * 1024
  @opcodes %{0 => :continuation, 1 => :text, 2 => :binary, 8 => :close, 9 => :ping, 10 => :pong}
  @numbers Map.new(@opcodes, fn {number, name} -> {name, number} end)
  @control [:close, :ping, :pong]

  @doc "`{:ok, {opcode, last?, payload}, rest}`, `:more`, or `{:error, code}` with the close code to send."
  def decode(<<_last::1, reserved::3, _::bitstring>>) when reserved != 0, do: {:error, 1002}
  def decode(<<_::8, 0::1, _::bitstring>>), do: {:error, 1002}

  def decode(<<last::1, 0::3, code::4, 1::1, short::7, rest::binary>>) do
    with {:ok, opcode} <- opcode(code, last, short),
         {:ok, length, rest} <- length(short, rest),
         do: payload(opcode, last == 1, length, rest)
  end

  def decode(_), do: :more

  defp opcode(code, last, short) do
    case @opcodes do
      %{^code => name} when name in @control and (last == 0 or short > 125) -> {:error, 1002}
      %{^code => name} -> {:ok, name}
      _ -> {:error, 1002}
    end
  end

  defp length(126, <<length::16, rest::binary>>), do: {:ok, length, rest}
  defp length(127, <<length::64, _::binary>>) when length > @largest, do: {:error, 1009}
  defp length(127, <<length::64, rest::binary>>), do: {:ok, length, rest}
  defp length(short, _) when short in [126, 127], do: :more
  defp length(short, rest), do: {:ok, short, rest}

  defp payload(opcode, last?, length, data) do
    case data do
      <<mask::binary-4, masked::binary-size(length), rest::binary>> ->
        {:ok, {opcode, last?, mask(masked, mask)}, rest}

      _ ->
        :more
    end
  end

  defp mask(data, key) do
    size = byte_size(data)
    :crypto.exor(data, binary_part(:binary.copy(key, div(size, 4) + 1), 0, size))
  end

  @doc "A server's frame: final, not masked."
  def encode(opcode, payload),
    do: [<<8::4, Map.fetch!(@numbers, opcode)::4>>, size(byte_size(payload)), payload]

  defp size(size) when size < 126, do: <<size>>
  defp size(size) when size < 65_536, do: <<126, size::16>>
  defp size(size), do: <<127, size::64>>
end
