defmodule Guestbook.ScramTest do
  use ExUnit.Case, async: true

  alias Guestbook.Scram

  # RFC 7677, section 3, save for the name, which PostgreSQL's clients leave empty
  @challenge "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"

  test "the proof belongs to the password, and the server's to both" do
    scram = "pencil" |> Scram.new("rOprNGfwEbeRWgbNEkqO") |> Scram.answer(@challenge)
    other = "pencils" |> Scram.new("rOprNGfwEbeRWgbNEkqO") |> Scram.answer(@challenge)
    assert "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=" <> proof = scram.final
    assert byte_size(Base.decode64!(proof)) == 32
    assert scram.final != other.final
    assert Scram.proven?(scram, "v=" <> Base.encode64(scram.signature))
    refute Scram.proven?(other, "v=" <> Base.encode64(scram.signature))
  end
end
