defmodule Hello.Http.RequestTest do
  use ExUnit.Case, async: true

  alias Hello.Http.Request

  defp head(text) do
    with {:ok, request, rest} <- Request.head(text), do: {:ok, request, rest}
  end

  defp body(text) do
    with {:ok, request, rest} <- Request.head(text), do: Request.body(request, rest)
  end

  test "reads method, path, query, headers in lower case, and leaves what follows" do
    {:ok, request, rest} = head("GET /slow?ms=5&x=a%20b HTTP/1.1\r\nHOST: A.test:443\r\nX-Y: z\r\n\r\nGET")
    assert {request.method, request.path, request.query} == {"GET", "/slow", %{"ms" => "5", "x" => "a b"}}
    assert request.headers["x-y"] == "z"
    assert Request.host(request) == "a.test"
    assert rest == "GET"
  end

  test "every shorter beginning of a request asks for more" do
    text = "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc"
    for size <- 0..(byte_size(text) - 1), do: assert(body(binary_part(text, 0, size)) == :more)
    assert {:ok, %{body: "abc"}, ""} = body(text)
  end

  test "every shorter beginning of a chunked request asks for more" do
    text =
      "POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n"

    for size <- 0..(byte_size(text) - 1), do: assert(body(binary_part(text, 0, size)) == :more)
    assert {:ok, %{body: "abc0123456789"}, "GET /"} = body(text <> "GET /")
  end

  test "what cannot be framed safely is refused" do
    both = "POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\nabc"
    assert body(both) == {:error, 400}
    assert body("POST / HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd") == {:error, 400}
    assert body("POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n") == {:error, 400}
    assert body("POST / HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n") == {:error, 413}
    assert body("POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n") == {:error, 501}
    assert body("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n") == {:error, 400}
    assert head("nonsense\r\n\r\n") == {:error, 400}
    assert head("GET / HTTP/1.1\r\na: " <> String.duplicate("b", 70_000)) == {:error, 431}
  end

  test "a connection is kept unless the client or an old protocol says otherwise" do
    assert {:ok, %{keep_alive?: true}, _} = head("GET / HTTP/1.1\r\n\r\n")
    assert {:ok, %{keep_alive?: false}, _} = head("GET / HTTP/1.1\r\nConnection: Close\r\n\r\n")
    assert {:ok, %{keep_alive?: false}, _} = head("GET / HTTP/1.0\r\n\r\n")
    assert {:ok, %{keep_alive?: true}, _} = head("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
  end
end
