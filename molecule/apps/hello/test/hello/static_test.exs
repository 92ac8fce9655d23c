defmodule Hello.StaticTest do
  use ExUnit.Case, async: true

  test "nothing outside priv/static can be asked for" do
    for path <- ["/../../mix.exs", "/assets/../../../ebin/hello.app", "/a\0.css", "/"] do
      assert Hello.Static.fetch(path, true) == :error
    end
  end

  test "JSON is escaped" do
    assert IO.iodata_to_binary(Hello.Json.encode(%{"a\"" => "\n\\é", "b" => [1, true, nil]})) ==
             ~S({"a\"":"\u000A\\é","b":[1,true,null]})
  end
end
