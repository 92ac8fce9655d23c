defmodule Guestbook.UrlTest do
  use ExUnit.Case, async: true

  alias Guestbook.Url

  test "a socket's directory goes before the host" do
    url = "ecto://shop@localhost/shop_db?socket_dir=/run/homeport-shop-postgres"
    assert %{user: "shop", database: "shop_db", password: ""} = at = Url.parse(url)
    assert at.place == {{:local, "/run/homeport-shop-postgres/.s.PGSQL.5432"}, 0}
  end

  test "a host has a port, and what is encoded is decoded" do
    assert %{place: {~c"db.example.com", 6432}, user: "a@b", password: "p:w/d"} =
             Url.parse("ecto://a%40b:p%3Aw%2Fd@db.example.com:6432/shop")
  end

  test "what is missing is told, without the password" do
    for url <- ["ecto://u:secret@host", "ecto://u:secret@host/", "ecto:///shop"] do
      error = assert_raise Url.Error, fn -> Url.parse(url) end
      refute error.message =~ "secret"
    end
  end
end
