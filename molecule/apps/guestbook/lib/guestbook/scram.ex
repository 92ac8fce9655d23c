defmodule Guestbook.Scram do
  @moduledoc "SCRAM-SHA-256 (RFC 7677), how a server on the network asks for a password."

  defstruct [:password, :nonce, final: nil, signature: nil]

  # no channel binding
  @header "n,,"

  def mechanism, do: "SCRAM-SHA-256"

  def new(password, nonce \\ Base.encode64(:crypto.strong_rand_bytes(18))) do
    %__MODULE__{password: password, nonce: nonce}
  end

  @doc "What the client says first. PostgreSQL knows the name already, and reads none here."
  def first(scram), do: @header <> bare(scram)

  @doc "The proof for the server's challenge, as `final`, and what the server has to prove."
  def answer(scram, challenge) do
    %{"r" => nonce, "s" => salt, "i" => rounds} = fields(challenge)
    true = String.starts_with?(nonce, scram.nonce)
    salted = :crypto.pbkdf2_hmac(:sha256, scram.password, Base.decode64!(salt), String.to_integer(rounds), 32)
    without_proof = "c=#{Base.encode64(@header)},r=#{nonce}"
    whole = "#{bare(scram)},#{challenge},#{without_proof}"
    key = hmac(salted, "Client Key")
    proof = :crypto.exor(key, hmac(:crypto.hash(:sha256, key), whole))
    final = "#{without_proof},p=#{Base.encode64(proof)}"
    %{scram | final: final, signature: hmac(hmac(salted, "Server Key"), whole)}
  end

  @doc "Whether the server knows the password too."
  def proven?(scram, said), do: fields(said)["v"] == Base.encode64(scram.signature)

  defp bare(scram), do: "n=,r=#{scram.nonce}"
  defp hmac(key, text), do: :crypto.mac(:hmac, :sha256, key, text)

  defp fields(text) do
    for field <- String.split(text, ","),
        into: %{},
        do: field |> String.split("=", parts: 2) |> List.to_tuple()
  end
end
