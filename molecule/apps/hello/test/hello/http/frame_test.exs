defmodule Hello.Http.FrameTest do
  use ExUnit.Case, async: true

  alias Hello.Http.{Frame, Websocket}

  @key <<55, 250, 33, 61>>

  test "decodes the masked example of RFC 6455, section 5.7" do
    frame = <<0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58>>
    assert Frame.decode(frame <> "rest") == {:ok, {:text, true, "Hello"}, "rest"}
    for size <- 0..(byte_size(frame) - 1), do: assert(Frame.decode(binary_part(frame, 0, size)) == :more)
  end

  test "decodes all three ways of writing a length" do
    for {size, short, long} <- [{125, 125, ""}, {126, 126, <<126::16>>}, {70_000, 127, <<70_000::64>>}] do
      data = :binary.copy("x", size)
      frame = <<0x82, 1::1, short::7>> <> long <> @key <> masked(data)
      assert Frame.decode(frame) == {:ok, {:binary, true, data}, ""}
    end
  end

  test "refuses unmasked, reserved, unknown, oversized and cut control frames" do
    assert Frame.decode(<<0x81, 0x05>> <> "Hello") == {:error, 1002}
    assert Frame.decode(<<0xC1, 0x80>> <> @key) == {:error, 1002}
    assert Frame.decode(<<0x83, 0x80>> <> @key) == {:error, 1002}
    assert Frame.decode(<<0x09, 0x80>> <> @key) == {:error, 1002}
    assert Frame.decode(<<0x82, 0xFF, 10_000_000::64>>) == {:error, 1009}
  end

  test "encodes final frames without a mask" do
    assert IO.iodata_to_binary(Frame.encode(:text, "Hello")) == <<0x81, 5>> <> "Hello"
    assert <<0x82, 126, 300::16, _::binary-300>> = encoded(300)
    assert <<0x82, 127, 70_000::64, _::binary-70_000>> = encoded(70_000)
  end

  test "accepts the handshake of RFC 6455, section 1.3, and no half of it" do
    headers = %{
      "upgrade" => "WebSocket",
      "connection" => "keep-alive, Upgrade",
      "sec-websocket-key" => "dGhlIHNhbXBsZSBub25jZQ==",
      "sec-websocket-version" => "13"
    }

    assert Websocket.accept(headers) == {:ok, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}
    for name <- Map.keys(headers), do: assert(Websocket.accept(Map.delete(headers, name)) == :error)
  end

  defp encoded(size), do: IO.iodata_to_binary(Frame.encode(:binary, :binary.copy("x", size)))

  defp masked(data) do
    key = Stream.cycle(:binary.bin_to_list(@key))
    for {byte, mask} <- Enum.zip(:binary.bin_to_list(data), key), into: <<>>, do: <<Bitwise.bxor(byte, mask)>>
  end
end
